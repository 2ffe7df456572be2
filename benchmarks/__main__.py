"""`./sv bench [name] [options]`: one benchmark or all; exit code 1 when a limit is broken."""

from __future__ import annotations

import subprocess
import sys

NAMES = ("start", "process", "recorder", "webhooks", "detect", "faults", "soak")


def main(arguments: list[str]) -> int:
    if not arguments:
        return max(run(name, []) for name in NAMES)
    name, *options = arguments
    if name not in NAMES:
        print(f"bench: no benchmark {name!r}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    return run(name, options)


def run(name: str, options: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
