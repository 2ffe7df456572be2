from __future__ import annotations

import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvault.hls.records import (
    AdSkipped,
    Ended,
    Gap,
    InitStored,
    PartOpened,
    Record,
    Resumed,
    SegmentStored,
)
from streamvault.hls.timeline import AdBreak, GapSpan, Timeline

T0 = 1_700_000_000.0  # 2023-11-14T22:13:20Z


def part(number: int, at: float = T0) -> PartOpened:
    return PartOpened(number, "ts", at, "start", "1080p60", "avc1.64002A", "1920x1080")


def seg(
    date: float | None,
    *,
    offset: int = 0,
    late: bool = False,
    repaired: bool = False,
    duration_s: float = 2.0,
) -> SegmentStored:
    when = None if date is None else T0 + date
    return SegmentStored(offset, 0, 0, 0, when, duration_s, False, late, repaired)


def gap(date: float | None, duration_s: float, *, count: int = 1, cause: str = "network") -> Gap:
    when = None if date is None else T0 + date
    return Gap(0, count, when, duration_s, "404", cause, T0 + 500)


def ad(date: float, duration_s: float = 2.0, kind: str = "midroll") -> AdSkipped:
    return AdSkipped(0, T0 + date, duration_s, kind)


def starts(timeline: Timeline) -> list[float]:
    return [p.start_s for p in timeline.parts]


def test_nothing_recorded() -> None:
    timeline = Timeline()
    assert (timeline.duration_s, timeline.size_bytes, timeline.parts) == (0.0, 0, ())
    assert timeline.media_of_wall(T0) == 0.0
    json.dumps(timeline.as_report())


def test_segments_add_up() -> None:
    timeline = Timeline([part(1), seg(0), seg(2), seg(4, duration_s=1.5)])
    assert timeline.duration_s == timeline.media_s == 5.5
    assert timeline.totals.segments_stored == timeline.totals.segments_expected == 3


def test_a_hole_inside_a_part_keeps_its_length() -> None:
    timeline = Timeline([part(1), seg(0), gap(2, 2), seg(4)])
    assert timeline.gaps == (GapSpan(2.0, 2.0, "network", T0 + 2),)
    (only,) = timeline.parts
    assert (only.span_s, only.duration_s) == (6.0, 4.0)
    assert (timeline.duration_s, timeline.media_s) == (6.0, 4.0)


def test_the_date_decides_where_a_part_begins() -> None:
    # The gap was noted as 8 s; by the source's clock it lasted 8.3 s.
    timeline = Timeline([part(1), seg(0), gap(2, 8), part(2), seg(10.3), seg(12.3)])
    assert starts(timeline) == [0.0, pytest.approx(10.3)]
    assert timeline.duration_s == pytest.approx(14.3)


def test_without_dates_the_noted_length_decides() -> None:
    timeline = Timeline([part(1), seg(None), gap(None, 8), part(2), seg(None)])
    assert starts(timeline) == [0.0, 10.0]
    assert timeline.gaps[0].at == T0 + 500


def test_parts_that_follow_each_other_leave_no_hole() -> None:
    timeline = Timeline([part(1), seg(0), part(2), seg(1.96), part(3), seg(3.96)])
    assert starts(timeline) == [0.0, 2.0, 4.0]


def test_a_clock_that_jumps_back_does_not_move_the_media_back() -> None:
    timeline = Timeline([part(1), seg(0), seg(2), part(2), seg(-3600), seg(-3598)])
    assert starts(timeline) == [0.0, 4.0]
    assert timeline.duration_s == 8.0


def test_adjoining_losses_of_one_cause_are_one_gap() -> None:
    records: list[Record] = [
        part(1),
        seg(0),
        gap(2, 2),
        gap(4, 2),
        gap(6, 2, cause="worker"),
        seg(8),
        gap(10, 2),
    ]
    timeline = Timeline(records)
    assert timeline.gaps == (
        GapSpan(2.0, 4.0, "network", T0 + 2),
        GapSpan(6.0, 2.0, "worker", T0 + 6),
        GapSpan(10.0, 2.0, "network", T0 + 10),
    )
    assert timeline.totals.gap_s == 8.0
    assert timeline.totals.segments_lost == 4
    assert timeline.totals.segments_expected == 6


def test_a_gap_at_the_very_end_does_not_lengthen_the_recording() -> None:
    timeline = Timeline([part(1), seg(0), gap(2, 90, count=0, cause="source"), Ended(T0, "ended")])
    assert timeline.duration_s == 2.0
    assert timeline.totals.segments_lost == 0


def test_an_ad_break_is_no_loss() -> None:
    records: list[Record] = [part(1), seg(0), ad(2), ad(4), ad(6), part(2), seg(8)]
    timeline = Timeline(records)
    assert timeline.ads == (AdBreak(2.0, 6.0, "midroll"),)
    totals = timeline.totals
    assert (totals.segments_ad, totals.ad_s, totals.gap_s) == (3, 6.0, 0.0)
    assert totals.segments_expected == totals.segments_stored == 2
    assert starts(timeline) == [0.0, 8.0]


def test_a_preroll_is_before_the_first_frame() -> None:
    timeline = Timeline([ad(0, kind="preroll"), ad(2, kind="preroll"), part(1), seg(4), seg(6)])
    assert timeline.ads == (AdBreak(0.0, 4.0, "preroll"),)
    assert timeline.duration_s == 4.0


def test_late_and_repaired_segments_are_counted() -> None:
    totals = Timeline([part(1), seg(0, late=True), seg(2, repaired=True), seg(4)]).totals
    assert (totals.segments_late, totals.segments_repaired, totals.segments_stored) == (1, 1, 3)


def test_restarts_name_their_cause() -> None:
    resumed = Resumed(3, True, 512, 0.0, T0, "asked for by a person")
    timeline = Timeline([part(1), seg(0), resumed, Resumed(4, False, 0, 1.5), seg(2)])
    assert [r.cause for r in timeline.restarts] == ["asked for by a person", "worker"]
    assert timeline.totals.restarts == 2


def test_a_part_knows_its_bytes_and_their_checksum() -> None:
    init, first, second = b"init", b"first segment", b"second"
    timeline = Timeline(
        [
            PartOpened(1, "mp4", T0, "start"),
            InitStored(0, 4, zlib.crc32(init), 0, "u"),
            SegmentStored(4, 13, zlib.crc32(first), 0, T0, 2.0, False),
            SegmentStored(17, 6, zlib.crc32(second), 1, T0 + 2, 2.0, False),
        ]
    )
    (only,) = timeline.parts
    assert only.file_name == "part-0001.mp4"
    assert only.size_bytes == timeline.size_bytes == 23
    assert only.crc == zlib.crc32(init + first + second)


def test_a_part_without_a_segment_is_none() -> None:
    timeline = Timeline([part(1), seg(0), part(2), part(3), seg(2)])
    assert [p.number for p in timeline.parts] == [1, 3]


def test_records_that_do_not_adjoin_have_no_checksum() -> None:
    assert Timeline([part(1), seg(0, offset=5)]).parts[0].crc is None


# ---- from the wall to the media


def test_moments_are_found_on_the_media_clock() -> None:
    # 0-4 s stored, 4-20 s lost, 20-24 s stored.
    timeline = Timeline([part(1), seg(0), seg(2), gap(4, 16), part(2), seg(20), seg(22)])
    moments = {-60: 0.0, 0: 0.0, 3: 3.0, 10: 10.0, 20: 20.0, 23: 23.0, 99: 24.0}
    assert {w: timeline.media_of_wall(T0 + w) for w in moments} == moments


def test_without_dates_the_recorders_clock_is_used() -> None:
    timeline = Timeline([part(1, T0 + 100), seg(None), seg(None)])
    assert timeline.media_of_wall(T0 + 103) == 3.0


# ---- the report


def test_the_report_has_the_keys_of_the_contract() -> None:
    records: list[Record] = [
        part(1),
        seg(0),
        gap(2, 2),
        ad(4),
        Resumed(3, True, 0, 0.5, T0 + 6),
        seg(6),
    ]
    report = json.loads(json.dumps(Timeline(records).as_report()))
    assert report["totals"] == {
        "segments_expected": 3,
        "segments_stored": 2,
        "segments_late": 0,
        "segments_lost": 1,
        "segments_ad": 1,
        "segments_repaired": 0,
        "gap_s": 2.0,
        "ad_s": 2.0,
        "restarts": 1,
    }
    assert report["gaps"] == [
        {"start_s": 2.0, "duration_s": 2.0, "cause": "network", "at": "2023-11-14T22:13:22.000Z"}
    ]
    assert report["ads"] == [{"start_s": 4.0, "duration_s": 2.0, "kind": "midroll"}]
    assert report["restarts"] == [
        {"at": "2023-11-14T22:13:26.000Z", "cause": "worker", "gap_s": 0.5}
    ]
    assert report["parts"][0]["crc32"] == "00000000"
    assert report["parts"][0]["segments"] == 2


# ---- anything

_events = st.lists(st.sampled_from(["seg", "gap", "ad", "part"]), max_size=30)


@given(_events)
def test_stored_and_missing_fill_the_clock(events: list[str]) -> None:
    """With a source whose clock is exact, everything from first to last frame is accounted for."""
    records: list[Record] = [part(1), seg(0)]
    date, number, last_frame = 2.0, 1, 2.0
    for event in events:
        if event == "part":
            number += 1
            records.append(part(number))
            continue
        kinds: dict[str, Record] = {"seg": seg(date), "gap": gap(date, 2), "ad": ad(date)}
        records.append(kinds[event])
        date += 2
        if event == "seg":
            last_frame = date
    timeline = Timeline(records)
    assert timeline.duration_s == pytest.approx(last_frame)
    trailing = date - last_frame
    missing = timeline.totals.gap_s + timeline.totals.ad_s - trailing
    assert timeline.media_s + missing == pytest.approx(last_frame)
    for index, one in enumerate(timeline.parts):
        assert one.start_s == pytest.approx(one.start_wall_s - T0)
        assert index == 0 or one.start_s >= timeline.parts[index - 1].end_s - 1e-6


@given(_events)
def test_feeding_one_by_one_is_the_same_as_at_once(events: list[str]) -> None:
    kinds: dict[str, Record] = {"seg": seg(0), "gap": gap(0, 2), "ad": ad(0), "part": part(1)}
    records: list[Record] = [kinds[e] for e in events]
    grown = Timeline()
    for record in records:
        grown.feed(record)
        grown.as_report()
    assert grown.as_report() == Timeline(records).as_report()


def test_on_the_clock_without_holes_only_what_lies_between_parts_is_left_out() -> None:
    # A hole of 2 s inside the first part, one of 6 s before the second.
    timeline = Timeline([part(1), seg(0), gap(2, 2), seg(4), gap(6, 6), part(2), seg(12)])
    assert [timeline.without_holes(at) for at in (0, 5, 6, 9, 12, 13, 99)] == [
        0, 5, 6, 6, 6, 7, 8,
    ]  # fmt: skip
