from __future__ import annotations

import json
import math
import os
import resource
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvault.hls.journal import (
    JOURNAL_NAME,
    Journal,
    open_part,
    place_part,
    read_journal,
    remove_part,
)
from streamvault.hls.records import (
    RECORD_TYPES,
    AdSkipped,
    Ended,
    Gap,
    InitStored,
    PartOpened,
    PendingResumed,
    Record,
    Resumed,
    SegmentStored,
    SessionStarted,
    Synced,
    Trouble,
    decode,
    encode,
)

AT = 1_700_000_000.0

_number = st.floats(allow_nan=False, allow_infinity=False)
_count = st.integers(0, 2**63)
_text = st.text(max_size=30)
_date = st.none() | _number
ANY_RECORD: st.SearchStrategy[Record] = st.one_of(
    st.builds(SessionStarted, _count, _text, _number, _number),
    st.builds(PartOpened, _count, _text, _number, _text, _text, _text, _text),
    st.builds(
        SegmentStored,
        *(_count, _count, _count, _count, _date, _number),
        *(st.booleans(), st.booleans(), st.booleans()),
    ),
    st.builds(InitStored, _count, _count, _count, _count, _text),
    st.builds(AdSkipped, _count, _date, _number, _text),
    st.builds(Gap, _count, _count, _date, _number, _text, _text, _date),
    st.builds(Trouble, _number, _text),
    st.builds(Resumed, _count, st.booleans(), _count, _number, _date, _text),
    st.builds(PendingResumed, _count, _count, _count),
    st.builds(Synced, _count),
    st.builds(Ended, _number, _text),
)


def segment(number: int, offset: int = 0) -> SegmentStored:
    return SegmentStored(offset, 10, 7, number, AT + 2 * number, 2.0, False)


def line(content: str) -> bytes:
    return b"%08x %s" % (zlib.crc32(content.encode()), content.encode())


# ---- the line format


@given(ANY_RECORD)
def test_every_record_survives_its_line(record: Record) -> None:
    written = encode(record)
    assert written.endswith(b"\n")
    assert written.count(b"\n") == 1
    assert decode(written[:-1]) == record


@given(ANY_RECORD)
def test_a_line_is_crc_space_and_json_with_its_letter(record: Record) -> None:
    crc, body = encode(record)[:-1].split(b" ", 1)
    assert crc == b"%08x" % zlib.crc32(body)
    assert json.loads(body)["t"] == record.letter


def test_the_letters_are_those_of_the_format() -> None:
    assert [kind.letter for kind in RECORD_TYPES] == list("hfsiagerpyz")
    assert set(get_args(Record)) == set(RECORD_TYPES)


def test_the_keys_are_those_of_the_format() -> None:
    stored = SegmentStored(1, 2, 3, 4, 5.5, 2.0, True)
    content = '{"t":"s","o":1,"l":2,"c":3,"q":4,"p":5.5,"d":2.0,"x":true}'
    assert encode(stored) == line(content) + b"\n"


@given(ANY_RECORD, st.data())
def test_a_flipped_bit_makes_the_line_bad(record: Record, data: st.DataObject) -> None:
    written = bytearray(encode(record)[:-1])
    at = data.draw(st.integers(0, len(written) - 1))
    written[at] ^= 1 << data.draw(st.integers(0, 7))
    assert decode(bytes(written)) is None


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "nope", '{"t":"s","o":1}', '{"t":"y"}', "\x00" * 40]
)
def test_intact_bytes_that_are_no_record_are_bad(content: str) -> None:
    assert decode(line(content)) is None


def test_unknown_fields_are_ignored() -> None:
    assert decode(line('{"t":"y","o":5,"new":[1]}')) == Synced(5)


def test_a_number_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode(Trouble(math.nan, ""))


# ---- writing and reading


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path)
    yield opened
    opened.close()


def test_what_is_appended_is_read_back_in_order(tmp_path: Path, journal: Journal) -> None:
    records: list[Record] = [
        SessionStarted(1, "https://x.example/?sig=1", AT),
        segment(0),
        segment(1),
    ]
    for record in records:
        journal.append(record)
    read = read_journal(tmp_path / JOURNAL_NAME)
    assert read.records == records
    assert read.bad_tail_bytes == 0
    assert read.valid_bytes == (tmp_path / JOURNAL_NAME).stat().st_size


def test_only_its_owner_may_read_it(tmp_path: Path, journal: Journal) -> None:
    assert (tmp_path / JOURNAL_NAME).stat().st_mode & 0o777 == 0o600


def test_no_journal_reads_as_empty(tmp_path: Path) -> None:
    read = read_journal(tmp_path / JOURNAL_NAME)
    assert (read.records, read.valid_bytes, read.bad_tail_bytes) == ([], 0, 0)


def test_reading_goes_on_where_it_ended(tmp_path: Path, journal: Journal) -> None:
    path = tmp_path / JOURNAL_NAME
    journal.append(segment(0))
    first = read_journal(path)
    journal.append(segment(1))
    second = read_journal(path, first.valid_bytes)
    assert second.records == [segment(1)]
    assert second.offsets == [first.valid_bytes]
    assert second.valid_bytes == path.stat().st_size


def test_a_line_that_is_still_being_written_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_NAME
    whole, half = encode(segment(0)), encode(segment(1))[:-3]
    path.write_bytes(whole + half)
    read = read_journal(path)
    assert read.records == [segment(0)]
    assert (read.valid_bytes, read.bad_tail_bytes) == (len(whole), len(half))


def test_records_of_a_newer_release_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_NAME
    path.write_bytes(encode(segment(0)) + line('{"t":"w"}') + b"\n" + encode(segment(1)))
    read = read_journal(path)
    assert read.records == [segment(0), segment(1)]
    assert read.bad_tail_bytes == 0


@given(st.lists(ANY_RECORD, max_size=8), st.data())
def test_any_cut_reads_as_a_prefix(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record], data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.jsonl"
    content = b"".join(map(encode, records))
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    read = read_journal(path)
    assert read.records == records[: len(read.records)]
    assert read.valid_bytes + read.bad_tail_bytes == cut
    assert len(read.records) == content[:cut].count(b"\n")


def test_threads_never_interleave_lines(tmp_path: Path, journal: Journal) -> None:
    def write(kind: int) -> None:
        for number in range(200):
            journal.append(Trouble(kind, str(number)))

    threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = read_journal(tmp_path / JOURNAL_NAME)
    assert read.bad_tail_bytes == 0
    for kind in range(4):
        mine = [r.why for r in read.records if isinstance(r, Trouble) and r.at == kind]
        assert mine == [str(n) for n in range(200)]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_only_half_fits_leaves_no_torn_line(tmp_path: Path, journal: Journal) -> None:
    journal.append(segment(0))
    size = (tmp_path / JOURNAL_NAME).stat().st_size
    # The kernel writes as much of the line as the limit allows, as a full disk does.
    with file_size_limit(size + 20), pytest.raises(OSError, match="No space left"):
        journal.append(segment(1))
    journal.append(segment(2))
    read = read_journal(tmp_path / JOURNAL_NAME)
    assert read.records == [segment(0), segment(2)]
    assert read.bad_tail_bytes == 0


# ---- parts


def opened(number: int) -> PartOpened:
    return PartOpened(number, "ts", AT, "start")


def test_rotation_closes_the_old_part_before_it_names_the_new_one(
    tmp_path: Path, journal: Journal
) -> None:
    first = journal.rotate(opened(1), None, 0)
    os.write(first, b"0123456789half a segment without record")
    journal.append(segment(0))
    second = journal.rotate(opened(2), first, 10)
    os.write(second, b"abcdefghij")
    os.close(first)
    os.close(second)
    records = read_journal(tmp_path / JOURNAL_NAME).records
    assert records == [opened(1), segment(0), Synced(10), opened(2)]
    assert (tmp_path / "part-0001.ts").read_bytes() == b"0123456789"
    assert (tmp_path / "part-0002.ts").read_bytes() == b"abcdefghij"


def test_a_sync_that_took_too_long_is_not_noted_in_the_wrong_part(
    tmp_path: Path, journal: Journal
) -> None:
    first = journal.rotate(opened(1), None, 0)
    assert journal.append_synced(1, 0)
    os.close(journal.rotate(opened(2), first, 0))
    os.close(first)
    assert not journal.append_synced(1, 0)
    assert journal.append_synced(2, 0)
    records = read_journal(tmp_path / JOURNAL_NAME).records
    assert records == [opened(1), Synced(0), Synced(0), opened(2), Synced(0)]


def test_opening_a_part_again_keeps_its_bytes(tmp_path: Path, journal: Journal) -> None:
    os.close(journal.rotate(opened(1), None, 0))
    (tmp_path / "part-0001.ts").write_bytes(b"stored")
    again = Journal(tmp_path, part_number=1)
    assert again.append_synced(1, 6)
    again.sync()
    again.close()
    assert (tmp_path / "part-0001.ts").read_bytes() == b"stored"


def test_a_part_that_lies_elsewhere_goes_with_its_link(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there" / "deeper"
    here.mkdir()
    part = PartOpened(1, "ts", 0.0, "disk")
    place_part(here, part, there)
    with os.fdopen(open_part(here, part), "wb") as file:
        file.write(b"media")
    assert (there / part.file_name).read_bytes() == b"media"
    assert (here / part.file_name).read_bytes() == b"media"
    remove_part(here / part.file_name)
    assert not [*here.iterdir(), *there.iterdir()]
