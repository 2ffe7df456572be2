"""A name server (RFC 1035) whose answers can go wrong, and a command that makes others ask it."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVFAIL, NXDOMAIN = 2, 3
A, IN = 1, 1
HEADER = struct.Struct("!6H")
RESPONSE = 0x8180  # an answer, recursion desired and available
TTL_S = 5


@dataclass
class NameServer:
    """Every name has this one address. `mode` is `ok`, `servfail`, `nxdomain` or `silent`."""

    address: str
    mode: str = "ok"
    asked: int = 0

    def answer(self, question: bytes) -> bytes | None:
        self.asked += 1
        if self.mode == "silent":
            return None
        number, *_ = HEADER.unpack_from(question)
        end = question.index(b"\0", HEADER.size) + 5
        (kind,) = struct.unpack_from("!H", question, end - 4)
        code = {"servfail": SERVFAIL, "nxdomain": NXDOMAIN}.get(self.mode, 0)
        found = b""
        if code == 0 and kind == A:
            record = struct.pack("!HHHIH", 0xC00C, A, IN, TTL_S, 4)
            found = record + socket.inet_aton(self.address)
        head = HEADER.pack(number, RESPONSE | code, 1, int(bool(found)), 0, 0)
        return head + question[HEADER.size : end] + found


@contextmanager
def name_server(here: str, address: str) -> Iterator[NameServer]:
    """On port 53 of `here`."""
    server = NameServer(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((here, 53))
        udp.settimeout(0.2)
        stop = threading.Event()
        thread = threading.Thread(target=_serve, args=(udp, server, stop), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            stop.set()
            thread.join(5)


def _serve(udp: socket.socket, server: NameServer, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            question, client = udp.recvfrom(512)
        except TimeoutError:
            continue
        if (answer := server.answer(question)) is not None:
            udp.sendto(answer, client)


def asking(here: str, folder: Path) -> tuple[str, ...]:
    """A command in whose view of the file system /etc/resolv.conf names the server at `here`."""
    resolv = folder / "resolv.conf"
    resolv.write_text(f"nameserver {here}\noptions timeout:1 attempts:1\n")
    script = f'mount --bind "{resolv}" "$(realpath /etc/resolv.conf)" && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", script, "sh")
