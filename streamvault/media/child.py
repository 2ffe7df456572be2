"""The inside of a Python child of `ffmpeg.run_python_child`: JSON in, JSON out, errors as words."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

SHARE = "share="
REPORT_S = 1.0
Item = TypeVar("Item")


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


def reporting(items: Sequence[Item]) -> Iterator[Item]:
    """The same items, and how far they are, each second on standard error."""
    told_at = time.monotonic()
    for number, item in enumerate(items):
        yield item
        if time.monotonic() - told_at >= REPORT_S:
            told_at = time.monotonic()
            print(f"{SHARE}{(number + 1) / len(items):.4f}", file=sys.stderr, flush=True)
