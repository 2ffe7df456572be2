"""The inside of a Python child of `ffmpeg.run_python_child`: JSON in, JSON out, errors as words."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer the one request on standard input.

    What libav refuses (its errors are OSError or ValueError) comes back as `{"error": …}`; a
    defect of our own ends the child with a traceback.
    """
    try:
        result = answer(json.load(sys.stdin))
    except (OSError, ValueError) as error:
        result = {"error": " ".join(str(error).split())[:500] or type(error).__name__}
    json.dump(result, sys.stdout)
