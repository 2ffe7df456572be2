"""How NAL units of H.264 are told apart: by start codes in MPEG-TS, by lengths in MP4.

A start code has three bytes, or four with a zero in front. The standard (ISO/IEC 14496-10 Annex B)
wants that zero before the first unit of a picture and before parameter sets, and leaves it free
elsewhere; muxers have their habits. Lengths do not tell which it was, so whoever turns the units of
an MP4 back into the stream they came from has to know the habit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum, auto

LENGTHS = "lengths"
_PARAMETER_SETS = frozenset({7, 8})
_DELIMITER = 9
# As libavformat's muxers look for it: one zero in front belongs to the start code, more do not.
_START_CODE = re.compile(rb"\0?\0\0\x01")


class Place(Enum):
    """Where a NAL unit stands in its picture; the first that holds."""

    FIRST = auto()
    PARAMETER_SET = auto()
    AFTER_DELIMITER = auto()
    OTHER = auto()


Habit = frozenset[Place]
"""The places at which a start code has four bytes."""

HABITS: Mapping[str, Habit] = {
    "annexb": frozenset({Place.FIRST, Place.PARAMETER_SET}),
    # A muxer that puts a delimiter in front leaves the zero of the unit that was first.
    "annexb-delimited": frozenset({Place.FIRST, Place.PARAMETER_SET, Place.AFTER_DELIMITER}),
    "annexb-4": frozenset(Place),
    "annexb-3": frozenset(),
    "annexb-4-first": frozenset({Place.FIRST}),
}


def habit_of(pictures: Sequence[bytes]) -> str:
    """The name in HABITS that gives each of these access units back, byte for byte; else ''."""
    if not pictures:
        return ""
    for name, habit in HABITS.items():
        if all(_given_back(picture, habit) for picture in pictures):
            return name
    return ""


def _given_back(picture: bytes, habit: Habit) -> bool:
    before, *units = _START_CODE.split(picture)
    if before or not units or not all(units):
        return False
    return b"".join(with_start_codes(units, habit)) == picture


def units_by_length(picture: memoryview, length_size: int) -> Iterator[memoryview]:
    """The NAL units of one sample of an MP4. Raises ValueError when lengths and size disagree."""
    at = 0
    while at < len(picture):
        begin = at + length_size
        at = begin + int.from_bytes(picture[at:begin], "big")
        if not begin < at <= len(picture):
            raise ValueError("the lengths of NAL units do not fit into their picture")
        yield picture[begin:at]


def with_start_codes(
    units: Iterable[bytes | memoryview], habit: Habit
) -> Iterator[bytes | memoryview]:
    """The units of one picture, each behind its start code."""
    previous = None
    for unit in units:
        kind = unit[0] & 0x1F
        yield b"\0\0\0\1" if _place(previous, kind) in habit else b"\0\0\1"
        yield unit
        previous = kind


def _place(previous: int | None, kind: int) -> Place:
    if previous is None:
        return Place.FIRST
    if kind in _PARAMETER_SETS:
        return Place.PARAMETER_SET
    return Place.AFTER_DELIMITER if previous == _DELIMITER else Place.OTHER
