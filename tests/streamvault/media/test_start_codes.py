"""Start codes by habit, on pictures put together by hand (ISO/IEC 14496-10 Annex B)."""

from __future__ import annotations

import pytest

from streamvault.media.start_codes import HABITS, habit_of, units_by_length, with_start_codes

DELIMITER, SETS, SEI, KEY, SLICE = (
    b"\x09\xf0",
    (b"\x67\x64\x00\x2a", b"\x68\xee\x3c\x80"),
    b"\x06\x05\x01\x80",
    b"\x65\x88\x84\x21",
    b"\x41\x9a\x24\x6c",
)
L, S = b"\0\0\0\1", b"\0\0\1"
UNITS = (
    (DELIMITER, *SETS, SEI, KEY, KEY),
    (DELIMITER, SLICE, SLICE),
)
PICTURES = {
    "annexb": (
        L + DELIMITER + L + SETS[0] + L + SETS[1] + S + SEI + S + KEY + S + KEY,
        L + DELIMITER + S + SLICE + S + SLICE,
    ),
    "annexb-delimited": (
        L + DELIMITER + L + SETS[0] + L + SETS[1] + S + SEI + S + KEY + S + KEY,
        L + DELIMITER + L + SLICE + S + SLICE,
    ),
    "annexb-4": tuple(b"".join(L + unit for unit in units) for units in UNITS),
    "annexb-3": tuple(b"".join(S + unit for unit in units) for units in UNITS),
    "annexb-4-first": tuple(L + S.join(units) for units in UNITS),
}


def stored(units: tuple[bytes, ...], length_size: int = 4) -> memoryview:
    return memoryview(b"".join(len(unit).to_bytes(length_size, "big") + unit for unit in units))


@pytest.mark.parametrize("name", PICTURES)
def test_a_habit_is_known_by_its_pictures(name: str) -> None:
    assert habit_of(PICTURES[name]) == name


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("length_size", [1, 2, 4])
def test_lengths_turn_back_into_the_start_codes_they_came_from(name: str, length_size: int) -> None:
    for units, picture in zip(UNITS, PICTURES[name], strict=True):
        pieces = with_start_codes(
            units_by_length(stored(units, length_size), length_size), HABITS[name]
        )
        assert b"".join(pieces) == picture


@pytest.mark.parametrize(
    "pictures",
    [
        [],
        [b""],
        [b"\x41\x9a no start code"],
        [L + SLICE, S + SLICE],
        [stored(UNITS[0]).tobytes()],
    ],
    ids=["none", "empty", "none at first", "changing", "lengths"],
)
def test_what_would_not_come_back_byte_for_byte_is_no_habit(pictures: list[bytes]) -> None:
    assert habit_of(pictures) == ""


@pytest.mark.parametrize(
    "sample",
    [b"\0\0\0\5abcd", b"\0\0\0\0\0\0\0\1a", b"\0\0\0\1ab", b"\0\0"],
    ids=["too long", "of nothing", "a rest", "cut short"],
)
def test_lengths_that_do_not_fit_are_refused(sample: bytes) -> None:
    with pytest.raises(ValueError, match="lengths"):
        list(units_by_length(memoryview(sample), 4))
