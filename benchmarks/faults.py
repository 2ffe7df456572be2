"""`./sv bench faults`: the faults that take longer than a test may.

The same assertions as in tests/faults: a hundred kills in one go, the cable out for five minutes,
Temporal hanging for five, Twitch's API away for ten, two hundred recordings one after the other.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

CASES = (
    "tests/faults/test_processes.py",
    "tests/faults/test_network.py",
    "tests/faults/test_twitch_outage.py",
    "tests/faults/test_cycles.py",
)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="./sv bench faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="a multiple of 20")
    parser.add_argument("--cut", type=int, default=300, help="seconds without a cable")
    parser.add_argument("--hang", type=int, default=300, help="seconds without Temporal")
    parser.add_argument("--outage", type=int, default=600, help="seconds without Helix")
    parser.add_argument("--cycles", type=int, default=200, help="recordings, four at a time")
    options = parser.parse_args(arguments)
    command = [sys.executable, "-m", "pytest", *CASES, "--timeout", "3600"]
    command += ["--kills", str(options.kills), "--cut-s", str(options.cut)]
    command += ["--hang-s", str(options.hang), "--outage-s", str(options.outage)]
    command += ["--cycles", str(options.cycles)]
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
