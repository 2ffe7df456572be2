"""MPEG-TS bytes (ISO/IEC 13818-1): move a segment in time, so that a pool gives a long stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

PACKET = 188
NULL_PID = 0x1FFF
TICKS_PER_S = 90_000
WRAP = 1 << 33


def continuity_counts(data: bytes) -> Counter[int]:
    """Packets with payload per PID; their number modulo 16 is how far the counters moved."""
    counts: Counter[int] = Counter()
    for offset in range(0, len(data), PACKET):
        if data[offset + 3] & 0x10:
            counts[_pid(data, offset)] += 1
    return counts


def shift(data: bytes, ticks: int, counters: Mapping[int, int]) -> bytes:
    """Add `ticks` (90 kHz) to every PTS, DTS and PCR, `counters[pid]` to continuity counters.

    Times wrap at 2^33 as the standard says.
    """
    if not ticks and not any(counters.values()):
        return data
    moved = bytearray(data)
    for offset in range(0, len(moved), PACKET):
        step = counters.get(_pid(moved, offset), 0)
        if step:
            flags = moved[offset + 3]
            moved[offset + 3] = (flags & 0xF0) | ((flags + step) & 0x0F)
        _shift_packet(moved, offset, ticks)
    return bytes(moved)


def first_video_pts(data: bytes) -> int | None:
    """PTS (90 kHz) of the first video PES header."""
    for offset in range(0, len(data), PACKET):
        payload = _payload(data, offset)
        if _starts_pes(data, offset, payload) and 0xE0 <= data[payload + 3] <= 0xEF:
            return _read_time(data, payload + 9) if data[payload + 7] & 0x80 else None
    return None


def stamp(text: str) -> bytes:
    """A null packet that carries `text`: players skip it, and it makes each hash unique."""
    head = bytes((0x47, NULL_PID >> 8, NULL_PID & 0xFF, 0x10))
    return (head + text.encode()).ljust(PACKET, b"\xff")[:PACKET]


def _shift_packet(data: bytearray, offset: int, ticks: int) -> None:
    if data[offset + 3] & 0x20 and data[offset + 4] and data[offset + 5] & 0x10:
        _shift_pcr(data, offset + 6, ticks)
    payload = _payload(data, offset)
    if not _starts_pes(data, offset, payload):
        return
    if data[payload + 7] & 0x80:
        _shift_time(data, payload + 9, ticks)
    if data[payload + 7] & 0x40:
        _shift_time(data, payload + 14, ticks)


def _pid(data: bytes | bytearray, offset: int) -> int:
    return (data[offset + 1] & 0x1F) << 8 | data[offset + 2]


def _payload(data: bytes | bytearray, offset: int) -> int:
    adaptation = 1 + data[offset + 4] if data[offset + 3] & 0x20 else 0
    return offset + 4 + adaptation


def _starts_pes(data: bytes | bytearray, offset: int, payload: int) -> bool:
    has_start = data[offset + 1] & 0x40 and data[offset + 3] & 0x10
    if not has_start or data[payload : payload + 3] != b"\0\0\1":
        return False
    return 0xC0 <= data[payload + 3] <= 0xEF


def _read_time(data: bytes | bytearray, at: int) -> int:
    return (
        (data[at] >> 1 & 7) << 30
        | data[at + 1] << 22
        | data[at + 2] >> 1 << 15
        | data[at + 3] << 7
        | data[at + 4] >> 1
    )


def _shift_time(data: bytearray, at: int, ticks: int) -> None:
    time = (_read_time(data, at) + ticks) % WRAP
    data[at] = (data[at] & 0xF1) | (time >> 29 & 0x0E)
    data[at + 1] = time >> 22 & 0xFF
    data[at + 2] = (time >> 14 & 0xFE) | 1
    data[at + 3] = time >> 7 & 0xFF
    data[at + 4] = (time << 1 & 0xFE) | 1


def _shift_pcr(data: bytearray, at: int, ticks: int) -> None:
    low = data[at + 4]
    base = (int.from_bytes(data[at : at + 4], "big") << 1 | low >> 7) + ticks
    data[at : at + 4] = (base % WRAP >> 1).to_bytes(4, "big")
    data[at + 4] = (base & 1) << 7 | (low & 0x7F)
