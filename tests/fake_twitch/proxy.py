"""A CONNECT proxy that brings every Twitch host to our TLS origin, and plain http to ourselves."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.fake_twitch.tls import is_known

HEAD_LIMIT = 64 * 1024
PIECE = 256 * 1024


@dataclass
class Proxy:
    """`tunnels` counts what was opened by host; `mode` is `ok`, `refuse` (502) or `hang`.

    `login` (`user:password`) makes it answer 407 to whoever does not give it.
    """

    tls_port: int
    plain_port: int
    mode: str = "ok"
    login: str = ""
    tunnels: Counter[str] = field(default_factory=Counter)
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await self._serve(reader, writer)
        finally:
            self.open.discard(writer)
            writer.close()

    def cut(self) -> int:
        """End every open connection, as a proxy that restarts does."""
        writers = list(self.open)
        for writer in writers:
            writer.transport.abort()
        return len(writers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if refusal := self._refusal(head):
            writer.write(f"HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            return
        if self.mode == "hang":
            await reader.read()
            return
        method, target, _ = head.split(b" ", 2)
        connect = method == b"CONNECT"
        port, host = self._where(connect, target.decode())
        if not port:
            writer.write(b"HTTP/1.1 502 Unknown host\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        self.tunnels[host] += 1
        origin_reader, origin_writer = await asyncio.open_connection("127.0.0.1", port)
        if connect:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            origin_writer.write(head)
        await _join(reader, writer, origin_reader, origin_writer)

    def _refusal(self, head: bytes) -> str:
        if self.mode == "refuse":
            return "502 Bad Gateway"
        expected = b"basic " + base64.b64encode(self.login.encode()).lower()
        if self.login and b"proxy-authorization: " + expected not in head.lower():
            return '407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="fake"'
        return ""

    def _where(self, connect: bool, target: str) -> tuple[int, str]:
        """Port of ours and host asked for; port 0 for what we do not know."""
        if connect:
            host, _, port = target.rpartition(":")
            own = {str(self.plain_port): self.plain_port}
            return (own.get(port, self.tls_port) if is_known(host) else 0), host
        address = urlsplit(target)
        ours = address.hostname in ("127.0.0.1", "localhost") and address.port == self.plain_port
        return (self.plain_port if ours else 0), address.hostname or ""


async def _join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    origin_reader: asyncio.StreamReader,
    origin_writer: asyncio.StreamWriter,
) -> None:
    """Copy both ways until one side has ended."""
    ways = {
        asyncio.create_task(_copy(reader, origin_writer)),
        asyncio.create_task(_copy(origin_reader, writer)),
    }
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        origin_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
