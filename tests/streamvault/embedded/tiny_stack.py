"""A supervisor over two stages of small real processes; run as a process of its own by the tests.

`python tiny_stack.py FOLDER [KNOB …]`: `server` in the first stage, `first` and `second` after it.
Each writes `NAME.pid` when it is up and a line to `events` at its start and its ordered end.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from streamvault.embedded import runfile
from streamvault.embedded.programs import Program
from streamvault.embedded.runfile import Running
from streamvault.embedded.supervisor import Stage, State, Supervisor
from streamvault.errors import StreamVaultError

FOLDER = Path(sys.argv[1])
KNOBS = sys.argv[2:]
SCRIPT = """
trap 'echo "$NAME ends" >> events; exit 0' TERM
echo "$NAME starts" >> events
echo $$ > "$NAME.pid"
while :; do touch "$NAME.beat"; sleep 0.1; done
"""
SCRIPTS = {
    "stubborn": "trap '' TERM; echo $$ > $NAME.pid; while :; do sleep 0.2; done",
    "wrong-setting": "echo 'streamvault: STREAMVAULT_PORT: takes a number'; exit 2",
    "broken": "echo 'no such thing'; exit 3",
    "chatty": "echo $$ > $NAME.pid; i=0; while [ $i -lt 10000 ]; do i=$((i+1));"
    " printf '%01000d\\n' $i; done; echo $i > count; sleep 1000",
}


@dataclass
class Shell:
    name: str
    script: str = SCRIPT
    follows: Path | None = None
    """A file whose content is part of the environment, as a server's address is."""

    @property
    def pid_file(self) -> Path:
        return FOLDER / f"{self.name}.pid"

    @property
    def beat(self) -> Path:
        return FOLDER / f"{self.name}.beat"

    def prepare(self) -> None:
        self.pid_file.unlink(missing_ok=True)

    def program(self) -> Program:
        address = self.follows.read_text() if self.follows and self.follows.exists() else ""
        env = os.environ | {"NAME": self.name, "ADDRESS": address}
        return Program(("sh", "-c", self.script), env=env, cwd=FOLDER, grace_s=2, beat=self.beat)

    def ready(self) -> bool:
        return self.pid_file.exists() and self.pid_file.read_text().strip() != ""

    def failed(self, output: str) -> str:
        return "looked into it"


def job() -> Program:
    return Program(("sh", "-c", "echo 'job runs' >> events"), cwd=FOLDER)


def changed(state: State) -> None:
    generation, ready = state.generation, state.ready
    found = Running(os.getpid(), "", "", "", "", "", generation, ready, state.pids, {})
    runfile.write(FOLDER, found)


def main() -> int:
    second = Shell("second", next((SCRIPTS[k] for k in KNOBS if k in SCRIPTS), SCRIPT))
    first = Shell("first", follows=FOLDER / "address")
    stages = [Stage([Shell("server")]), Stage([first, second], job=job)]
    try:
        with runfile.only_supervisor(FOLDER):
            asyncio.run(Supervisor(stages, changed, beat_look_s=0.3).run(lambda: "ready"))
    except StreamVaultError as error:
        print(error.one_line, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
