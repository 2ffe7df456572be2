"""A child of `run_python_child` that takes its time, and complains."""

from __future__ import annotations

import sys
import time

from streamvault.media import child

if __name__ == "__main__":
    child.REPORT_S = 0.0
    for _ in child.reporting(range(4)):
        time.sleep(0.01)
        print("a word of libav", file=sys.stderr)
    child.serve(lambda request: {"heard": request["word"]})
