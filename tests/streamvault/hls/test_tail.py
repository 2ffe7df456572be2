"""What players see: read back by streamlink's parser, and by libav over real bytes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlink.stream.hls.m3u8 import M3U8, M3U8Parser
from streamlink.stream.hls.segment import ByteRange, HLSPlaylist, HLSSegment, Map

import streamvault.media
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
)
from streamvault.hls.tail import LivePlaylist

T0 = 1_700_000_000.0  # 2023-11-14T22:13:20Z
SIZE = 100
URL = "http://127.0.0.1/recording/"

SESSION = SessionStarted(1, "https://x.example/a.m3u8", T0, 6.0)
GAP = Gap(0, 1, T0, 2.0, "404")
AD = AdSkipped(0, T0, 2.0)
ENDED = Ended(T0, "ended")
OTHERS: dict[str, Record] = {"gap": GAP, "ad": AD, "resumed": Resumed(0, True, 0, 0.0)}


def part(number: int, ext: str = "ts") -> PartOpened:
    return PartOpened(number, ext, T0, "start")


def seg(number: int, *, duration_s: float = 2.0, discontinuity: bool = False) -> SegmentStored:
    """Segment `number` of its part: 100 bytes at 100 times its number."""
    date = T0 + 2 * number
    return SegmentStored(SIZE * number, SIZE, 0, number, date, duration_s, discontinuity)


def segs(*numbers: int) -> list[Record]:
    return [seg(n) for n in numbers]


def playlist(records: Sequence[Record]) -> str:
    return LivePlaylist(lambda name: URL + name, records).text()


def parsed(text: str) -> list[HLSSegment]:
    parser: M3U8Parser[M3U8[HLSSegment, HLSPlaylist], HLSSegment, HLSPlaylist] = M3U8Parser(URL)
    return parser.parse(text).segments


def span(found: ByteRange | None) -> tuple[int, int]:
    """(offset, length)."""
    assert found is not None
    assert found.offset is not None
    return found.offset, found.range


def init_of(found: Map | None) -> tuple[str, int, int]:
    assert found is not None
    return found.uri.removeprefix(URL), *span(found.byterange)


Entry = tuple[str, int, int, float, bool]


def entries(text: str) -> list[Entry]:
    """(part, first segment, segments, seconds, discontinuity) of every entry."""
    found = parsed(text)
    return [
        (
            s.uri.removeprefix(URL),
            span(s.byterange)[0] // SIZE,
            span(s.byterange)[1] // SIZE,
            s.duration,
            s.discontinuity,
        )
        for s in found
    ]


TS1, TS2 = "part-0001.ts", "part-0002.ts"


def test_segments_are_grouped_to_six_seconds() -> None:
    text = playlist([SESSION, part(1), *segs(0, 1, 2, 3, 4, 5, 6, 7)])
    # The first one stands alone; the last one waits for its group.
    assert entries(text) == [
        (TS1, 0, 1, 2.0, False),
        (TS1, 1, 3, 6.0, False),
        (TS1, 4, 3, 6.0, False),
    ]


def test_it_is_an_event_playlist_whose_dates_are_those_of_the_segments() -> None:
    text = playlist([SESSION, part(1), *segs(0, 1, 2, 3)])
    assert text == (
        "#EXTM3U\n#EXT-X-VERSION:4\n#EXT-X-TARGETDURATION:10\n#EXT-X-MEDIA-SEQUENCE:0\n"
        "#EXT-X-PLAYLIST-TYPE:EVENT\n"
        "#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.000Z\n"
        "#EXTINF:2.000,\n#EXT-X-BYTERANGE:100@0\nhttp://127.0.0.1/recording/part-0001.ts\n"
        "#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:22.000Z\n"
        "#EXTINF:6.000,\n#EXT-X-BYTERANGE:300@100\nhttp://127.0.0.1/recording/part-0001.ts\n"
    )


def test_nothing_is_there_before_the_first_segment() -> None:
    live = LivePlaylist(str, [SESSION, part(1)])
    assert live.is_empty
    live.feed(seg(0))
    assert not live.is_empty


def test_the_end_closes_the_last_group() -> None:
    text = playlist([SESSION, part(1), *segs(0, 1), ENDED])
    assert entries(text) == [(TS1, 0, 1, 2.0, False), (TS1, 1, 1, 2.0, False)]
    assert text.endswith("#EXT-X-ENDLIST\n")


def test_a_recording_that_goes_on_has_no_end_any_more() -> None:
    records: list[Record] = [
        SESSION,
        part(1),
        *segs(0, 1),
        ENDED,
        Resumed(2, False, 0, 0.0),
        part(2),
        seg(0),
    ]
    assert "ENDLIST" not in playlist(records)


@pytest.mark.parametrize("between", [GAP, AD])
def test_a_hole_closes_the_group_and_is_a_discontinuity(between: Record) -> None:
    text = playlist([part(1), *segs(0, 1), between, *segs(2, 3, 4)])
    assert entries(text) == [
        (TS1, 0, 1, 2.0, False),
        (TS1, 1, 1, 2.0, False),
        (TS1, 2, 3, 6.0, True),
    ]


def test_a_discontinuity_of_the_source_is_kept() -> None:
    records: list[Record] = [part(1), *segs(0, 1), seg(2, discontinuity=True), *segs(3, 4)]
    assert entries(playlist(records))[1:] == [(TS1, 1, 1, 2.0, False), (TS1, 2, 3, 6.0, True)]


def test_a_new_part_is_a_discontinuity() -> None:
    text = playlist([part(1), *segs(0, 1), part(2), *segs(0, 1, 2)])
    assert entries(text)[1:] == [(TS1, 1, 1, 2.0, False), (TS2, 0, 3, 6.0, True)]


@pytest.mark.parametrize("before", [[GAP], [AD], [seg(9)], [part(1)], []])
def test_the_first_entry_follows_nothing(before: list[Record]) -> None:
    records: list[Record] = [*before, part(2), seg(0, discontinuity=True)]
    assert entries(playlist(records)) == [(TS2, 0, 1, 2.0, False)]


def test_a_resume_without_a_hole_goes_on_in_the_same_group() -> None:
    between: list[Record] = [Trouble(T0, "drained"), Synced(300), Resumed(3, True, 0, 0.0)]
    text = playlist([part(1), *segs(0, 1, 2), *between, seg(3)])
    assert entries(text)[1:] == [(TS1, 1, 3, 6.0, False)]


def test_segments_that_do_not_adjoin_are_not_grouped() -> None:
    assert entries(playlist([part(1), *segs(0, 1, 3, 4), ENDED]))[1:] == [
        (TS1, 1, 1, 2.0, False),
        (TS1, 3, 2, 4.0, False),
    ]


def test_long_segments_stay_within_the_target() -> None:
    """A group of 5 s is not closed yet; a further 8 s would exceed the target of 10 s."""
    records: list[Record] = [part(1), seg(0), seg(1, duration_s=5.0), seg(2, duration_s=8.0)]
    assert entries(playlist(records))[1:] == [(TS1, 1, 1, 5.0, False), (TS1, 2, 1, 8.0, False)]


@pytest.mark.parametrize(
    ("records", "target"),
    [
        ([], 10),
        ([SESSION, part(1), seg(0)], 10),
        ([SessionStarted(1, "", T0, 12.5), part(1), seg(0)], 13),
        ([SESSION, SessionStarted(1, "", T0, 30.0), part(1), seg(0)], 10),
        ([SessionStarted(1, "", T0), part(1), seg(0, duration_s=16.0), seg(1)], 16),
    ],
    ids=["nothing yet", "usual", "long", "fixed by the first", "from the first segment"],
)
def test_the_target_is_fixed_at_the_start(records: list[Record], target: int) -> None:
    assert f"#EXT-X-TARGETDURATION:{target}\n" in playlist(records)


def test_fmp4_parts_have_their_map() -> None:
    init = InitStored(0, 50, 0, 0, "https://x.example/init.mp4")
    first = SegmentStored(50, SIZE, 0, 0, T0, 2.0, False)
    text = playlist([part(1, "mp4"), init, first, GAP, part(2, "mp4"), init, first, ENDED])
    found = parsed(text)
    assert "#EXT-X-VERSION:7\n" in text
    assert text.count("#EXT-X-MAP") == 2
    assert [init_of(s.map) for s in found] == [("part-0001.mp4", 0, 50), ("part-0002.mp4", 0, 50)]
    assert [span(s.byterange) for s in found] == [(50, SIZE), (50, SIZE)]


# ---- anything

_journals = st.lists(
    st.sampled_from(["seg", "seg", "seg", "long", "disc", "gap", "ad", "part", "resumed"]),
    max_size=40,
)


def _records(events: list[str]) -> list[Record]:
    records: list[Record] = [SESSION, part(1)]
    number, parts = 0, 1
    for event in events:
        if event == "part":
            parts, number = parts + 1, 0
            records.append(part(parts))
        elif event in ("seg", "long", "disc"):
            duration_s = 6.0 if event == "long" else 2.0
            records.append(seg(number, duration_s=duration_s, discontinuity=event == "disc"))
            number += 1
        else:
            records.append(OTHERS[event])
    return records


@given(_journals)
def test_published_text_never_changes(events: list[str]) -> None:
    records = _records(events)
    live = LivePlaylist(lambda name: URL + name)
    published = ""
    for count, record in enumerate(records, 1):
        live.feed(record)
        text = live.text()
        assert text.startswith(published)
        assert text == playlist(records[:count])
        published = text


@given(_journals)
def test_every_stored_byte_is_listed_once_and_in_order(events: list[str]) -> None:
    records: list[Record] = [*_records(events), ENDED]
    found = parsed(playlist(records))
    listed = [
        (s.uri.removeprefix(URL), span(s.byterange)[0] + SIZE * n)
        for s in found
        for n in range(span(s.byterange)[1] // SIZE)
    ]
    stored: list[tuple[str, int]] = []
    name = ""
    for record in records:
        if isinstance(record, PartOpened):
            name = record.file_name
        elif isinstance(record, SegmentStored):
            stored.append((name, record.offset))
    assert listed == stored
    assert all(round(s.duration) <= 10 for s in found)


# ---- real bytes


def packet_count(path: Path) -> int:
    options = {"allowed_extensions": "ALL", "protocol_whitelist": "file"}
    with av.open(str(path), options=options if path.suffix == ".m3u8" else {}) as container:
        video = container.streams.video[0]
        return sum(1 for packet in container.demux(video) if packet.size)


def test_libav_plays_all_of_it(tmp_path: Path) -> None:
    clip = Path(streamvault.media.__file__).with_name("selftest.ts")
    body = clip.read_bytes()
    crc = zlib.crc32(body)
    records: list[Record] = [SESSION]
    for number, clips in ((1, 3), (2, 2)):
        records.append(part(number))
        (tmp_path / part(number).file_name).write_bytes(body * clips)
        for n in range(clips):
            start = len(body) * n
            # The same clip again starts its timestamps anew: a discontinuity each time.
            records.append(SegmentStored(start, len(body), crc, n, T0 + 2 * n, 2.0, True))
    live = tmp_path / "live.m3u8"
    live.write_text(LivePlaylist(str, [*records, ENDED]).text())
    assert packet_count(live) == 5 * packet_count(clip)
