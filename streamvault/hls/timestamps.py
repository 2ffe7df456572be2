"""What the first bytes of a segment say: first timestamp, codecs, parameter sets.

MPEG-TS after ISO/IEC 13818-1 (2.4.3, 2.4.4), fragmented MP4 after ISO/IEC 14496-12. Only enough is
read to tell whether a segment continues the one before it; what cannot be read is None.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

PACKET = 188
SYNC = 0x47
WRAP_S = 2**33 / 90_000
MP4_BOXES = {b"styp", b"sidx", b"moof", b"prft", b"emsg", b"ftyp", b"free", b"mdat", b"skip"}
VIDEO_STREAM_IDS = range(0xE0, 0xF0)
AUDIO_STREAM_IDS = (*range(0xC0, 0xE0), 0xBD)
# H.264 nal_unit_type 7 (SPS), and H.265 32 and 33 (VPS, SPS), each behind its start code.
PARAMETER_SET = re.compile(
    rb"\x00\x00\x01([\x67\x47\x27\x40\x42].{4,400}?)\x00\x00[\x00\x01]", re.S
)


@dataclass(frozen=True, slots=True)
class Head:
    """`start_s`: first presentation (TS) or decode (fMP4) time in seconds; `codecs`: a fingerprint
    of stream types and parameter sets, 0 when unknown."""

    start_s: float | None
    codecs: int = 0


def looks_like_ts(data: bytes | memoryview) -> bool:
    return len(data) > 0 and data[0] == SYNC and (len(data) <= PACKET or data[PACKET] == SYNC)


def looks_like_mp4(data: bytes | memoryview) -> bool:
    return len(data) >= 8 and bytes(data[4:8]) in MP4_BOXES


def looks_like_audio(data: bytes | memoryview) -> bool:
    """Packed audio (RFC 8216 §3.4): an ID3 tag, or an ADTS or MPEG audio sync word."""
    return bytes(data[:3]) == b"ID3" or (len(data) > 1 and data[0] == 0xFF and data[1] >= 0xE0)


def read_head(data: bytes | memoryview, timescales: dict[int, int] | None = None) -> Head:
    """Head of a media segment; `timescales` from `read_timescales` for fragmented MP4."""
    raw = bytes(data)
    if looks_like_ts(raw):
        return _ts_head(raw)
    if looks_like_mp4(raw):
        return Head(_fragment_start(raw, timescales or {}))
    return Head(None)


def continues(expected_s: float | None, start_s: float | None, tolerance_s: float) -> bool | None:
    """Whether a segment starts where the last one ended, modulo the 33-bit wrap; None: unknown."""
    if expected_s is None or start_s is None:
        return None
    off = (start_s - expected_s) % WRAP_S
    return min(off, WRAP_S - off) <= tolerance_s


def _ts_head(raw: bytes) -> Head:
    audio: float | None = None
    codecs = b""
    pmt_pid = -1
    for pid, payload in _unit_starts(raw):
        if pid == 0:
            pmt_pid = _pmt_pid(payload)
        elif pid == pmt_pid:
            codecs = _stream_types(payload)
        elif payload[:3] == b"\x00\x00\x01" and len(payload) > 13:
            if payload[3] in VIDEO_STREAM_IDS:
                sets = b"".join(PARAMETER_SET.findall(payload))
                return Head(_pes_start(payload), zlib.crc32(codecs + sets) if codecs else 0)
            if payload[3] in AUDIO_STREAM_IDS and audio is None:
                audio = _pes_start(payload)
    return Head(audio, zlib.crc32(codecs) if codecs else 0)


def _unit_starts(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """(PID, payload) of each packet that starts a PES packet or a table."""
    for at in range(0, len(raw) - PACKET + 1, PACKET):
        if raw[at] != SYNC:
            return
        if not raw[at + 1] & 0x40 or not raw[at + 3] & 0x10:
            continue
        skip = 4 + (1 + raw[at + 4] if raw[at + 3] & 0x20 else 0)
        if skip < PACKET:
            yield (raw[at + 1] & 0x1F) << 8 | raw[at + 2], raw[at + skip : at + PACKET]


def _pmt_pid(payload: bytes) -> int:
    table = payload[1 + payload[0] :]
    return (table[10] & 0x1F) << 8 | table[11] if len(table) > 11 and table[0] == 0 else -1


def _stream_types(payload: bytes) -> bytes:
    table = payload[1 + payload[0] :]
    if len(table) < 13 or table[0] != 2:
        return b""
    end = min(len(table), 3 + ((table[1] & 0x0F) << 8 | table[2]) - 4)
    at = 12 + ((table[10] & 0x0F) << 8 | table[11])
    types = bytearray()
    while at + 5 <= end:
        types.append(table[at])
        at += 5 + ((table[at + 3] & 0x0F) << 8 | table[at + 4])
    return bytes(types)


def _pes_start(payload: bytes) -> float | None:
    if not payload[7] & 0x80:
        return None
    a, b, c = payload[9], int.from_bytes(payload[10:12]), int.from_bytes(payload[12:14])
    return ((a >> 1 & 7) << 30 | (b >> 1) << 15 | c >> 1) / 90_000


def boxes(raw: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """(type, payload start, payload end) of the boxes in `raw[start:end]`; a cut one ends it."""
    end = len(raw) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", raw, start)
        header = 8
        if size == 1 and start + 16 <= end:
            size, header = int.from_bytes(raw[start + 8 : start + 16]), 16
        if size < header:
            return
        yield kind, start + header, min(start + size, end)
        start += size


def read_timescales(init: bytes) -> dict[int, int]:
    """Track id to ticks per second, from an init section's `moov`."""
    found: dict[int, int] = {}
    for _, start, end in _inside(init, (b"moov", b"trak"), 0, len(init)):
        track = scale = 0
        for kind, at, stop in boxes(init, start, end):
            if kind == b"tkhd":
                track = int.from_bytes(init[at + (20 if init[at] else 12) :][:4])
            elif kind == b"mdia":
                for name, inner, _ in boxes(init, at, stop):
                    if name == b"mdhd":
                        scale = int.from_bytes(init[inner + (20 if init[inner] else 12) :][:4])
        if track and scale:
            found[track] = scale
    return found


def _fragment_start(raw: bytes, timescales: dict[int, int]) -> float | None:
    for _, start, end in _inside(raw, (b"moof", b"traf"), 0, len(raw)):
        track = 0
        for kind, at, _ in boxes(raw, start, end):
            if kind == b"tfhd":
                track = int.from_bytes(raw[at + 4 : at + 8])
            elif kind == b"tfdt" and track in timescales:
                ticks = int.from_bytes(raw[at + 4 : at + (12 if raw[at] else 8)])
                return ticks / timescales[track]
    return None


def _inside(
    raw: bytes, path: tuple[bytes, ...], start: int, end: int
) -> Iterator[tuple[bytes, int, int]]:
    for kind, at, stop in boxes(raw, start, end):
        if kind != path[0]:
            continue
        if len(path) == 1:
            yield kind, at, stop
        else:
            yield from _inside(raw, path[1:], at, stop)
