"""What it takes to run one child process so that it can never outlive the one who started it."""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path

from streamvault.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Program:
    """One command line with everything the kernel has to know about it.

    `death_signal` is what the kernel sends when the starting *thread* dies, `kill -9` included:
    spawn a program from a thread that lives as long as it should, the main one.
    """

    argv: tuple[str, ...]
    env: dict[str, str] | None = field(default=None, repr=False)
    """None inherits ours. Not shown, since it may hold a password."""
    cwd: Path | None = None
    privileges: tuple[str, ...] = ()
    """setpriv options that change the user; only root has any."""
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    grace_s: float = 30.0
    """How long a stop may take before the whole session is killed."""
    beat: Path | None = None
    """A file that it touches every few seconds while it lives; one that is missing says nothing."""

    @property
    def command(self) -> tuple[str, ...]:
        """The command line as spawned: setpriv execs, so the pid is the program's own."""
        death = ("--pdeathsig", self.death_signal.name.removeprefix("SIG"))
        return (setpriv(), *self.privileges, *death, "--", *self.argv)


def setpriv() -> str:
    """util-linux's setpriv, which ties a child's life to ours without any code in the child."""
    path = shutil.which("setpriv", path="/usr/bin:/bin:/usr/local/bin:/run/current-system/sw/bin")
    if path is None:
        raise SettingsError("setpriv is missing", hint="install the package util-linux")
    return path
