"""Fragmented MP4 bytes (ISO/IEC 14496-12): move a fragment in time; read timescales and codecs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tests.fake_twitch.mpegts import TICKS_PER_S

_CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"moof", b"traf"})


def timescales(init: bytes) -> dict[int, int]:
    """Ticks per second by track id, from an init section."""
    data = bytearray(init)
    tracks = [data[at + 12 + 8 :][:4] for kind, at, _ in _boxes(data) if kind == b"tkhd"]
    scales = [data[at + 12 + 8 :][:4] for kind, at, _ in _boxes(data) if kind == b"mdhd"]
    return {
        int.from_bytes(track, "big"): int.from_bytes(scale, "big")
        for track, scale in zip(tracks, scales, strict=True)
    }


def shift(fragment: bytes, ticks: int, scales: Mapping[int, int], sequence: int) -> bytes:
    """Add `ticks` (90 kHz) to every decode time and segment index; number the fragments anew."""
    moved = bytearray(fragment)
    track = 0
    for kind, at, _ in _boxes(moved):
        if kind == b"mfhd":
            moved[at + 12 : at + 16] = sequence.to_bytes(4, "big")
        elif kind == b"tfhd":
            track = int.from_bytes(moved[at + 12 : at + 16], "big")
        elif kind == b"tfdt":
            _add(moved, at + 12, ticks * scales[track] // TICKS_PER_S)
        elif kind == b"sidx":
            scale = int.from_bytes(moved[at + 16 : at + 20], "big")
            _add(moved, at + 20, ticks * scale // TICKS_PER_S)
    return bytes(moved)


def stamp(text: str) -> bytes:
    """A `free` box that carries `text`."""
    payload = text.encode()
    return (8 + len(payload)).to_bytes(4, "big") + b"free" + payload


def codec(init: bytes) -> str:
    """The video codec as RFC 6381 names it."""
    if (at := init.find(b"avcC")) >= 0:
        return f"avc1.{init[at + 5 : at + 8].hex()}"
    if (at := init.find(b"av1C")) >= 0:
        return _av1(init[at + 5], init[at + 6])
    at = init.index(b"hvcC") + 5
    tier = "H" if init[at] & 0x20 else "L"
    # The compatibility flags are written with their bits reversed (ISO/IEC 14496-15, annex E).
    flags = int(f"{int.from_bytes(init[at + 1 : at + 5], 'big'):032b}"[::-1], 2)
    constraints = init[at + 5 : at + 11].rstrip(b"\0")
    parts = [f"hvc1.{init[at] & 0x1F}", f"{flags:X}", f"{tier}{init[at + 11]}"]
    return ".".join([*parts, *(f"{byte:X}" for byte in constraints)])


def _av1(profile_and_level: int, flags: int) -> str:
    """As in "AV1 Codec ISO Media File Format Binding", section 5."""
    profile, level = profile_and_level >> 5, profile_and_level & 0x1F
    depth = 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    return f"av01.{profile}.{level:02}{'H' if flags & 0x80 else 'M'}.{depth:02}"


def _add(data: bytearray, at: int, ticks: int) -> None:
    """Add to a 64-bit time; ffmpeg writes version 1 of both boxes."""
    time = int.from_bytes(data[at : at + 8], "big") + ticks
    data[at : at + 8] = time.to_bytes(8, "big")


def _boxes(
    data: bytearray, start: int = 0, end: int | None = None
) -> Iterator[tuple[bytes, int, int]]:
    """Every box, containers entered: kind, offset, size."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        size = int.from_bytes(data[start : start + 4], "big")
        kind = bytes(data[start + 4 : start + 8])
        yield kind, start, size
        if kind in _CONTAINERS:
            yield from _boxes(data, start + 8, start + size)
        start += size
