"""A small HLS origin in the test's own event loop; its segments are the truth of the tests.

Segments are real MPEG-TS in structure (tables, PES headers with timestamps), with random payload,
so that each is unique and every byte of a part can be traced.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

EPOCH = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
PACKET = 188


def ts_packet(pid: int, payload: bytes, *, start: bool = False) -> bytes:
    """One transport packet; a short payload is padded by an adaptation field."""
    room = PACKET - 4
    stuffing = room - len(payload)
    head = bytes([0x47, (0x40 if start else 0) | pid >> 8, pid & 0xFF])
    if not stuffing:
        return head + b"\x10" + payload
    field = bytes([stuffing - 1]) + (b"\x00" + b"\xff" * (stuffing - 2) if stuffing > 1 else b"")
    return head + b"\x30" + field + payload


def ts_segment(start_s: float, seed: int, packets: int = 40, stream_type: int = 0x1B) -> bytes:
    """H.264 by its table (0x1B), first presentation at `start_s`."""
    pat = b"\x00\x00\xb0\x0d\x00\x01\xc1\x00\x00\x00\x01\xf0\x00" + bytes(4)
    pmt = (
        b"\x00\x02\xb0\x12\x00\x01\xc1\x00\x00\xe1\x00\xf0\x00"
        + bytes([stream_type])
        + b"\xe1\x00\xf0\x00"
        + bytes(4)
    )
    ticks = round(start_s * 90_000) % 2**33
    pts = bytes(
        [
            0x21 | (ticks >> 30 & 7) << 1,
            ticks >> 22 & 0xFF,
            1 | (ticks >> 15 & 0x7F) << 1,
            ticks >> 7 & 0xFF,
            1 | (ticks & 0x7F) << 1,
        ]
    )
    noise = random.Random(seed)
    pes = b"\x00\x00\x01\xe0\x00\x00\x80\x80\x05" + pts + noise.randbytes(100)
    body = [
        ts_packet(0, pat, start=True),
        ts_packet(0x1000, pmt, start=True),
        ts_packet(0x100, pes, start=True),
    ]
    body += [ts_packet(0x100, noise.randbytes(184)) for _ in range(packets - 3)]
    return b"".join(body)


@dataclass
class Published:
    number: int
    body: bytes
    date: float
    duration_s: float
    discontinuity: bool = False
    ad: bool = False
    init: str = ""


@dataclass
class Channel:
    name: str
    window: int = 10
    segment_s: float = 0.2
    segments: list[Published] = field(default_factory=list)
    inits: dict[str, bytes] = field(default_factory=dict)
    with_dates: bool = True
    ended: bool = False
    playlist_status: int = 200
    playlist_body: str | None = None
    hidden: bool = False
    """The playlist stays as it is, though segments are published."""
    gone: dict[int, int] = field(default_factory=dict)
    """Segment number: how many more times it answers 404."""
    short: dict[int, int] = field(default_factory=dict)
    """Segment number: how many more times its body is cut."""
    stuck: dict[int, int] = field(default_factory=dict)
    """Segment number: how many more times its body stops in the middle."""
    trickle_s: float = 0.0
    shifts: dict[str, int] = field(default_factory=dict)
    dead_sessions: set[str] = field(default_factory=set)
    """Sessions whose playlist answers 403."""
    requests: list[str] = field(default_factory=list)
    clock: float = EPOCH
    media_s: float = 10.0
    seen: list[Published] = field(default_factory=list)
    _frozen: list[Published] = field(default_factory=list)

    def publish(
        self,
        count: int = 1,
        *,
        discontinuity: bool = False,
        ad: bool = False,
        body: bytes | None = None,
        init: str = "",
        packets: int = 40,
        stream_type: int = 0x1B,
    ) -> list[Published]:
        new = []
        for _ in range(count):
            number = len(self.segments)
            content = body or ts_segment(
                self.media_s, hash((self.name, number)), packets, stream_type
            )
            new.append(
                Published(number, content, self.clock, self.segment_s, discontinuity, ad, init)
            )
            self.segments.append(new[-1])
            self.clock += self.segment_s
            self.media_s += self.segment_s
            discontinuity = False
        if not self.hidden:
            self._frozen = list(self.segments)
        return new

    def away(self, seconds: float) -> None:
        """The source is away: neither its clock nor its timestamps stand still."""
        self.clock += seconds
        self.media_s += seconds

    def bodies(self, *, ads: bool = False) -> list[bytes]:
        return [s.body for s in self.segments if ads or not s.ad]

    def playlist(self, session: str) -> str:
        shift = self.shifts.get(session, 0)
        listed = self._frozen[-self.window :]
        first = listed[0].number + shift if listed else shift
        lines = ["#EXTM3U", "#EXT-X-VERSION:6", "#EXT-X-TARGETDURATION:1"]
        lines.append(f"#EXT-X-MEDIA-SEQUENCE:{first}")
        init = ""
        for segment in listed:
            if segment.discontinuity:
                lines.append("#EXT-X-DISCONTINUITY")
            if segment.init != init:
                init = segment.init
                lines.append(f'#EXT-X-MAP:URI="{init}"')
            if self.with_dates:
                stamp = datetime.fromtimestamp(segment.date, UTC).isoformat(timespec="milliseconds")
                lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{stamp}")
            lines.append(f"#EXTINF:{segment.duration_s:.3f},{'Amazon' if segment.ad else 'live'}")
            lines.append(f"{segment.number}.ts?token=secret")
        if self.ended:
            lines.append("#EXT-X-ENDLIST")
        return "\n".join(lines) + "\n"


class Origin:
    def __init__(self) -> None:
        self.channels: dict[str, Channel] = {}
        self.port = 0
        self.down = False
        """Connections are closed without an answer."""

    def channel(self, name: str, **settings: object) -> Channel:
        self.channels[name] = Channel(name, **settings)  # type: ignore[arg-type]  # test builder
        return self.channels[name]

    def url(self, channel: str, session: str = "a") -> str:
        return f"http://127.0.0.1:{self.port}/{channel}/{session}/live.m3u8?token=secret"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if self.down:
                    return
                await self._answer(head.split()[1].decode(), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, target: str, writer: asyncio.StreamWriter) -> None:
        _, name, session, file = target.partition("?")[0].split("/")
        channel = self.channels[name]
        channel.requests.append(f"{session}/{file}")
        if file == "live.m3u8":
            status = 403 if session in channel.dead_sessions else channel.playlist_status
            text = channel.playlist_body
            body = (channel.playlist(session) if text is None else text).encode()
            await _send(writer, status, body)
        elif file in channel.inits:
            await _send(writer, 200, channel.inits[file])
        else:
            await self._segment(channel, int(file.removesuffix(".ts")), writer)

    async def _segment(self, channel: Channel, number: int, writer: asyncio.StreamWriter) -> None:
        body = channel.segments[number].body
        if channel.gone.get(number, 0) > 0:
            channel.gone[number] -= 1
            await _send(writer, 404, b"gone")
        elif channel.short.get(number, 0) > 0:
            channel.short[number] -= 1
            await _send(writer, 200, body[: len(body) // 2], length=len(body))
            writer.close()
        elif channel.stuck.get(number, 0) > 0:
            channel.stuck[number] -= 1
            await _send(writer, 200, body[: len(body) // 2], length=len(body))
            # Until the other side has had enough of it.
            await writer.wait_closed()
        else:
            await _send(writer, 200, body, trickle_s=channel.trickle_s)


async def _send(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    *,
    length: int | None = None,
    trickle_s: float = 0.0,
) -> None:
    size = len(body) if length is None else length
    writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, size))
    step = max(1, len(body) // 10) if trickle_s else len(body)
    for at in range(0, len(body), step or 1):
        writer.write(body[at : at + step])
        await writer.drain()
        if trickle_s:
            await asyncio.sleep(trickle_s / 10)
    await writer.drain()


@asynccontextmanager
async def run_origin() -> AsyncIterator[Origin]:
    origin = Origin()
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0)
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()
