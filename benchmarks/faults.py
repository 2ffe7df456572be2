"""`./sv bench faults`: the faults that take longer than a test may.

The same assertions as in tests/faults, with Twitch's API away for ten minutes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

OUTAGE_S = 600
CASES = "tests/faults/test_twitch_outage.py"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./sv bench faults", description=__doc__)
    parser.add_argument("--outage", type=int, default=OUTAGE_S, help="seconds without Helix")
    options = parser.parse_args(arguments)
    command = [sys.executable, "-m", "pytest", CASES, "--outage-s", str(options.outage)]
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
