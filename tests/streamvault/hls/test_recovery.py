"""A recording's directory is built, damaged as a crash or a bad disk would, and recovered.

The truth is the bytes that were stored: whatever the damage, what remains is a prefix of the
journal, and the parts hold exactly the bytes of the records that remain.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamvault.hls.journal import JOURNAL_NAME, read_journal
from streamvault.hls.records import (
    AdSkipped,
    Ended,
    Gap,
    InitStored,
    PartOpened,
    Record,
    Resumed,
    SegmentStored,
    SessionStarted,
    Synced,
    Trouble,
    encode,
)
from streamvault.hls.recovery import Recovery, recover

AT = 1_700_000_000.0
SESSION = SessionStarted(1, "https://x.example/a.m3u8", AT)


@dataclass
class Recorded:
    """A directory that is written as the recorder does, and the truth about it."""

    directory: Path
    records: list[Record] = field(default_factory=list)
    content: dict[str, bytes] = field(default_factory=dict)
    part: str = ""
    number: int = 0

    def add(self, *records: Record) -> Recorded:
        with (self.directory / JOURNAL_NAME).open("ab") as file:
            for record in records:
                file.write(encode(record))
        self.records.extend(records)
        return self

    def open(self, number: int, ext: str = "ts") -> Recorded:
        opened = PartOpened(number, ext, AT, "start" if number == 1 else "gap")
        self.part = opened.file_name
        self.content[self.part] = b""
        return self.add(opened)

    def store(self, count: int = 1) -> Recorded:
        for _ in range(count):
            body = f"<segment {self.number}>".encode() * 3
            self.add(self._stored(body))
            self._append(body)
            self.number += 1
        return self

    def init(self, body: bytes) -> Recorded:
        offset = len(self.content[self.part])
        uri = "https://x.example/init.mp4"
        self.add(InitStored(offset, len(body), zlib.crc32(body), self.number, uri))
        self._append(body)
        return self

    def sync(self) -> Recorded:
        return self.add(Synced(len(self.content[self.part])))

    def torn(self, body: bytes) -> Recorded:
        """Bytes on their way in whose record was never written."""
        with (self.directory / self.part).open("ab") as file:
            file.write(body)
        return self

    def _stored(self, body: bytes) -> SegmentStored:
        offset = len(self.content[self.part])
        date = AT + 2 * self.number
        crc = zlib.crc32(body)
        return SegmentStored(offset, len(body), crc, self.number, date, 2.0, False)

    def _append(self, body: bytes) -> None:
        self.content[self.part] += body
        (self.directory / self.part).write_bytes(self.content[self.part])


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path).add(SESSION)


def bytes_of(records: Sequence[Record], content: dict[str, bytes]) -> dict[str, bytes]:
    """What the parts must hold if these are the records."""
    parts: dict[str, bytes] = {}
    name = ""
    for record in records:
        if isinstance(record, PartOpened):
            name = record.file_name
            parts[name] = b""
        elif isinstance(record, SegmentStored | InitStored):
            parts[name] += content[name][record.offset : record.offset + record.length]
    return parts


def parts_on_disk(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.glob("part-*") if p.name.count(".") == 1}


def check(recorded: Recorded, found: Recovery) -> None:
    """Journal and parts agree, and are the beginning of what was stored."""
    kept = list(found.records)
    assert kept == recorded.records[: len(kept)]
    assert read_journal(recorded.directory / JOURNAL_NAME).records == kept
    assert read_journal(recorded.directory / JOURNAL_NAME).bad_tail_bytes == 0
    expected = bytes_of(kept, recorded.content)
    on_disk = parts_on_disk(recorded.directory)
    assert {n: b for n, b in on_disk.items() if b} == {n: b for n, b in expected.items() if b}


def numbers(found: Recovery) -> list[int]:
    return [r.sequence for r in found.records if isinstance(r, SegmentStored)]


# ---- nothing wrong


def test_an_empty_directory_is_a_recording_that_has_not_begun(tmp_path: Path) -> None:
    found = recover(tmp_path)
    assert found.records == ()
    assert (found.part, found.part_size, found.next_part_number) == (None, 0, 1)
    assert (found.end_date, found.session, found.finished) == (None, None, False)
    assert not found.damaged
    assert list(tmp_path.iterdir()) == []


def test_what_is_whole_stays_as_it_is(recorded: Recorded) -> None:
    recorded.open(1).store(3).sync().open(2).store(2)
    found = recover(recorded.directory)
    check(recorded, found)
    assert numbers(found) == [0, 1, 2, 3, 4]
    assert (found.torn_bytes, found.damaged) == (0, False)
    assert found.part == PartOpened(2, "ts", AT, "gap")
    assert found.part_size == len(recorded.content["part-0002.ts"])
    assert found.next_part_number == 3
    assert found.session == SESSION


@pytest.mark.parametrize(
    ("last", "end_date", "sequence"),
    [
        (AdSkipped(9, AT + 100, 2.0), AT + 102, 10),
        (Gap(9, 4, AT + 100, 8.0, "window"), AT + 108, 13),
        (SegmentStored(0, 0, 0, 9, AT + 100, 2.5, False), AT + 102.5, 10),
        (AdSkipped(9, None, 2.0), None, 10),
        (SESSION, AT + 2, None),
    ],
    ids=["ad", "gap", "segment", "no date", "new session"],
)
def test_the_end_is_that_of_the_last_segment_ad_or_gap(
    recorded: Recorded, last: Record, end_date: float | None, sequence: int | None
) -> None:
    recorded.open(1).store().add(last, Trouble(AT, "x"))
    found = recover(recorded.directory)
    assert (found.end_date, found.next_sequence) == (end_date, sequence)


def test_the_init_section_is_that_of_the_newest_part(recorded: Recorded) -> None:
    recorded.open(1, "mp4").init(b"first init").store()
    found = recover(recorded.directory)
    assert found.init is not None
    assert found.init.length == 10
    recorded.open(2, "mp4")
    assert recover(recorded.directory).init is None


def test_a_recording_taken_up_after_its_end_is_not_finished(recorded: Recorded) -> None:
    recorded.open(1).store().sync().add(Ended(AT, "stopped"))
    assert recover(recorded.directory).finished
    recorded.add(Resumed(1, False, 0, 0.0))
    assert not recover(recorded.directory).finished


def test_a_finished_recording_whose_parts_are_gone_is_left_alone(recorded: Recorded) -> None:
    recorded.open(1).store(2).sync().add(Ended(AT, "ended"))
    (recorded.directory / "part-0001.ts").unlink()
    found = recover(recorded.directory)
    assert found.finished
    assert list(found.records) == recorded.records
    assert not found.damaged


# ---- what a SIGKILL leaves


def test_bytes_without_a_record_are_cut(recorded: Recorded) -> None:
    recorded.open(1).store(2).torn(b"half a segm")
    found = recover(recorded.directory)
    check(recorded, found)
    assert (found.torn_bytes, found.damaged) == (11, False)


def test_a_part_that_no_record_names_is_deleted(recorded: Recorded) -> None:
    recorded.open(1).store()
    (recorded.directory / "part-0002.ts").write_bytes(b"stray")
    check(recorded, recover(recorded.directory))


def test_a_part_that_was_named_and_not_created_yet_is_empty(recorded: Recorded) -> None:
    recorded.open(1).store().sync().open(2)
    found = recover(recorded.directory)
    check(recorded, found)
    assert found.part is not None
    assert (found.part.number, found.part_size, found.damaged) == (2, 0, False)


def test_other_files_are_nobodys_business(recorded: Recorded) -> None:
    recorded.open(1).store()
    (recorded.directory / "storyboard.vtt").write_text("WEBVTT")
    recover(recorded.directory)
    assert (recorded.directory / "storyboard.vtt").exists()


# ---- what a power cut leaves


def test_a_record_whose_bytes_never_reached_the_disk_is_cut(recorded: Recorded) -> None:
    recorded.open(1).store(2).sync().store(3)
    part = recorded.directory / recorded.part
    content = bytearray(part.read_bytes())
    # The second unsynced segment reads as zeros: its blocks were allocated and not written.
    third = next(r for r in recorded.records if isinstance(r, SegmentStored) and r.sequence == 3)
    content[third.offset : third.offset + third.length] = bytes(third.length)
    part.write_bytes(content)
    found = recover(recorded.directory)
    check(recorded, found)
    assert numbers(found) == [0, 1, 2]
    assert not found.damaged


def test_records_appended_during_a_sync_are_checked_too(recorded: Recorded) -> None:
    recorded.open(1).store()
    end = len(recorded.content[recorded.part])
    recorded.store().add(Synced(end))
    (recorded.directory / recorded.part).write_bytes(b"\0" * end + b"?" * end)
    assert numbers(recover(recorded.directory)) == [0]


def test_durable_bytes_are_not_read_again(recorded: Recorded) -> None:
    recorded.open(1).store(2).sync()
    size = len(recorded.content[recorded.part])
    (recorded.directory / recorded.part).write_bytes(bytes(size))
    assert numbers(recover(recorded.directory)) == [0, 1]


# ---- what no crash explains


def test_a_flip_early_in_the_journal_sets_everything_after_it_aside(recorded: Recorded) -> None:
    recorded.open(1).store(3).sync().store(2).sync().open(2).store(2)
    journal = recorded.directory / JOURNAL_NAME
    content = bytearray(journal.read_bytes())
    flipped = read_journal(journal).offsets[3] + 20
    content[flipped] ^= 4
    journal.write_bytes(content)
    found = recover(recorded.directory)
    check(recorded, found)
    assert numbers(found) == [0]
    assert found.damaged
    kept = len(recorded.content["part-0001.ts"]) // 5
    aside = {name: (recorded.directory / name).read_bytes() for name in found.set_aside}
    assert sorted(aside.values()) == sorted(
        [
            bytes(content),
            recorded.content["part-0001.ts"][kept:],
            recorded.content["part-0002.ts"],
        ]
    )
    assert not recover(recorded.directory).damaged


def test_a_tail_that_is_too_large_is_set_aside(recorded: Recorded) -> None:
    recorded.open(1).store().torn(b"x" * 101)
    found = recover(recorded.directory, torn_limit=100)
    check(recorded, found)
    assert found.damaged
    assert b"x" * 101 in [(recorded.directory / n).read_bytes() for n in found.set_aside]


def test_parts_without_any_journal_are_not_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "part-0001.ts").write_bytes(b"x" * 101)
    found = recover(tmp_path, torn_limit=100)
    assert found.damaged
    assert [(tmp_path / n).read_bytes() for n in found.set_aside] == [b"x" * 101]
    assert parts_on_disk(tmp_path) == {}


def test_durable_bytes_that_vanished_are_damage(recorded: Recorded) -> None:
    recorded.open(1).store(3).sync()
    part = recorded.directory / recorded.part
    part.write_bytes(part.read_bytes()[:-1])
    found = recover(recorded.directory)
    check(recorded, found)
    assert numbers(found) == [0, 1]
    assert found.damaged


def test_a_missing_older_part_does_not_take_the_newer_ones_along(recorded: Recorded) -> None:
    recorded.open(1).store().sync().open(2).store()
    (recorded.directory / "part-0001.ts").unlink()
    found = recover(recorded.directory)
    assert found.damaged
    assert numbers(found) == [0, 1]
    assert parts_on_disk(recorded.directory) == {"part-0002.ts": recorded.content["part-0002.ts"]}


# ---- anything


def _build(directory: Path) -> Recorded:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    recorded = Recorded(directory).add(SESSION).open(1, "mp4").init(b"init").store(2).sync()
    recorded.store().add(AdSkipped(3, AT + 6, 2.0), Gap(4, 1, AT + 8, 2.0, "404"))
    return recorded.sync().open(2).store(2).sync().store(2).torn(b"tail")


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(st.data())
def test_any_damage_to_the_journal_leaves_a_true_prefix(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    recorded = _build(tmp_path_factory.getbasetemp() / "journal-damage")
    journal = recorded.directory / JOURNAL_NAME
    content = bytearray(journal.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[at:]
    journal.write_bytes(content)
    check(recorded, recover(recorded.directory))
    again = recover(recorded.directory)
    check(recorded, again)
    assert (again.torn_bytes, again.damaged) == (0, False)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(st.data())
def test_any_damage_to_the_unsynced_tail_leaves_a_true_prefix(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    recorded = _build(tmp_path_factory.getbasetemp() / "part-damage")
    part = recorded.directory / "part-0002.ts"
    content = bytearray(part.read_bytes())
    synced = len(recorded.content["part-0002.ts"]) // 2
    at = data.draw(st.integers(synced, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[at:]
    part.write_bytes(content)
    found = recover(recorded.directory)
    check(recorded, found)
    assert not found.damaged
    assert numbers(found)[:5] == [0, 1, 2, 3, 4]
    check(recorded, recover(recorded.directory))
