"""Proxies to be killed in tests: one that passes bytes on to another, and a SOCKS5 server.

Each runs its own event loop in a thread, so that it goes on while a test blocks.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

PIECE = 64 * 1024
TRICKLE = 500
LARGE = 4096
"""No playlist of a test is."""
SOCKS_OK = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"


@dataclass
class Relay:
    """What it does can be changed while it runs. `mode` is `ok`, `dead` (nobody listens any more,
    for new and old connections alike), `407`, `slow` (1 kB/s), or `slow-media`: slow for what is
    large."""

    port: int = 0
    mode: str = "ok"
    bytes_down: int = 0
    connections: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop | None = None

    def become(self, mode: str) -> None:
        self.mode = mode
        if mode == "dead" and self._loop is not None:
            self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, port)
        self._open.add(far_writer)
        up = asyncio.create_task(self._pump(reader, far_writer, down=False))
        try:
            await self._pump(far_reader, writer, down=True)
        finally:
            up.cancel()
            far_writer.close()
            self._open.discard(far_writer)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, down: bool
    ) -> None:
        while piece := await reader.read(PIECE):
            self.bytes_down += len(piece) if down else 0
            large = len(piece) > LARGE
            while down and piece and (self.mode == "slow" or (self.mode == "slow-media" and large)):
                writer.write(piece[:TRICKLE])
                piece = piece[TRICKLE:]
                await asyncio.sleep(0.5)
            writer.write(piece)
            await writer.drain()


@contextmanager
def relay_to(proxy_url: str) -> Iterator[Relay]:
    """Another way to the same proxy, which can die without it."""
    target = urlsplit(proxy_url)

    async def serve(
        relay: Relay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if relay.mode == "407":
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        await relay.join(reader, writer, target.hostname or "", target.port or 0)

    with _running(serve) as relay:
        yield relay


@contextmanager
def socks5_to(port: int) -> Iterator[Relay]:
    """RFC 1928 without a login; whatever is asked for is found at our port of the loopback."""

    async def serve(
        relay: Relay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        _, methods = await reader.readexactly(2)
        await reader.readexactly(methods)
        writer.write(b"\x05\x00")
        *_, kind = await reader.readexactly(4)
        length = (await reader.readexactly(1))[0] if kind == 3 else {1: 4, 4: 16}[kind]
        await reader.readexactly(length + struct.calcsize("!H"))
        writer.write(SOCKS_OK)
        await relay.join(reader, writer, "127.0.0.1", port)

    with _running(serve) as relay:
        yield relay


Serve = Callable[[Relay, asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@contextmanager
def _running(serve: Serve) -> Iterator[Relay]:
    relay, started, stop = Relay(), threading.Event(), threading.Event()
    sock = socket.create_server(("127.0.0.1", 0))
    relay.port = sock.getsockname()[1]
    thread = threading.Thread(
        target=asyncio.run, args=(_serve(relay, sock, serve, started, stop),), daemon=True
    )
    thread.start()
    started.wait(10)
    try:
        yield relay
    finally:
        stop.set()
        thread.join(10)


async def _serve(
    relay: Relay, sock: socket.socket, serve: Serve, started: threading.Event, stop: threading.Event
) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay.connections += 1
        relay._open.add(writer)
        try:
            if relay.mode == "dead":
                writer.transport.abort()
                return
            with suppress(OSError, asyncio.IncompleteReadError):
                await serve(relay, reader, writer)
        finally:
            relay._open.discard(writer)
            writer.close()

    relay._loop = asyncio.get_running_loop()
    server = await asyncio.start_server(client, sock=sock)
    started.set()
    await asyncio.to_thread(stop.wait)
    server.close()
    relay._cut()
