"""Networks of a test's own: a namespace on the other end of a cable that can be pulled.

Needs root and iproute2; `can_be_made` says whether they are there.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    name: str
    address: str
    """Of the namespace, as seen from here."""
    here: str
    """Of our own end of the cable."""

    @property
    def inside(self) -> tuple[str, ...]:
        """Runs a command in the namespace."""
        return ("ip", "netns", "exec", self.name)

    @contextmanager
    def pulled(self) -> Iterator[None]:
        """Packets vanish in both directions; nobody is told. It carries again when this ends."""
        _ip("-n", self.name, "link", "set", "inside", "down")
        try:
            yield
        finally:
            _ip("-n", self.name, "link", "set", "inside", "up")
            self._await_carrier()

    def _await_carrier(self, timeout_s: float = 10) -> None:
        """A question for the neighbour's address from before the cable was back fails after it."""
        deadline = time.monotonic() + timeout_s
        while not self._carries():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.address} is still not to be reached")

    def _carries(self) -> bool:
        """Being refused is an answer, too."""
        try:
            socket.create_connection((self.address, 9), timeout=1).close()
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        return True


def can_be_made() -> bool:
    return os.getuid() == 0 and shutil.which("ip") is not None


@contextmanager
def network() -> Iterator[Network]:
    """Of this process: its number makes name and addresses its own."""
    name = f"sv-{os.getpid()}"
    outside = f"sv{os.getpid()}"
    third, fourth = divmod(os.getpid() % 16_000 * 4, 256)
    ours, theirs = (f"10.77.{third}.{fourth + n}" for n in (1, 2))
    _ip("netns", "add", name)
    try:
        _ip("link", "add", outside, "type", "veth", "peer", "name", "inside", "netns", name)
        _ip("address", "add", f"{ours}/30", "dev", outside)
        _ip("link", "set", outside, "up")
        _ip("-n", name, "address", "add", f"{theirs}/30", "dev", "inside")
        for device in ("lo", "inside"):
            _ip("-n", name, "link", "set", device, "up")
        yield Network(name, theirs, ours)
    finally:
        _ip("netns", "delete", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=10)
