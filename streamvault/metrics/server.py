"""A worker's own `/metrics`: ours and those of Temporal's client, on one loopback port.

Knows no library: a worker without figures of its own need not load one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
READ_TIMEOUT_S = 2.0
HEAD_LIMIT = 8192


async def serve_metrics(
    port: int, own: Callable[[], bytes], beside: Iterable[int] = ()
) -> asyncio.Server:
    """Answer every request on 127.0.0.1:`port` with our own page, in the text format 0.0.4, and
    what the ports `beside` say."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
            async with asyncio.timeout(READ_TIMEOUT_S):
                await reader.readuntil(b"\r\n\r\n")
            pages = await asyncio.gather(*(fetch_metrics(other) for other in beside))
            body = b"".join([own(), *pages])
            head = (
                "HTTP/1.1 200 OK\r\n"
                f"Content-Type: {CONTENT_TYPE}\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", port, limit=HEAD_LIMIT)


async def fetch_metrics(port: int) -> bytes:
    """The page of a loopback port; empty when nobody answers in time."""
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
            answer = await reader.read(-1)
            writer.close()
    except (OSError, TimeoutError):
        return b""
    head, _, body = answer.partition(b"\r\n\r\n")
    return _unchunked(body) if b"chunked" in head.lower() else body


def _unchunked(body: bytes) -> bytes:
    """RFC 9112 §7.1, without trailers: Temporal's exporter answers so even to HTTP/1.0."""
    pieces: list[bytes] = []
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size.split(b";")[0] or b"0", 16)
        if not length:
            break
        pieces.append(body[:length])
        body = body[length + 2 :]
    return b"".join(pieces)
