"""What a source does wrong, and the network on the way to it: rows F18 to F28 of the fault table.

All at once on one running product, since they do not disturb each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Gate
from tests.e2e.product import Up
from tests.fake_twitch.client import FakeChannel, FakeTwitch
from tests.faults.accounts import Account, Played, Scenario, account, play_all, table_line

AD_SEGMENTS = 7  # of a second each
PASSES_S = 12.0
"""Every fault of a single segment is over by then."""


def _soon(channel: FakeChannel) -> tuple[int, ...]:
    """A segment that is about to be published."""
    return (channel.segments + 2,)


def _for(
    period_s: float, target: str, kind: str, **fields: object
) -> Callable[[FakeChannel], None]:
    def play(channel: FakeChannel) -> None:
        channel.fault(target, kind, duration_s=period_s, **fields)
        time.sleep(period_s)

    return play


def _one_segment(kind: str, **fields: object) -> Callable[[FakeChannel], None]:
    def play(channel: FakeChannel) -> None:
        channel.fault("segment", kind, numbers=_soon(channel), **fields)
        time.sleep(PASSES_S)

    return play


def _token_dies(channel: FakeChannel) -> None:
    channel.fault("playlist", "status", status=403, count=1)
    time.sleep(2)


def _discontinuities(channel: FakeChannel) -> None:
    channel.act("discontinuity", pts_jump_s=1000.0)
    time.sleep(4)
    channel.act("discontinuity")
    time.sleep(4)


def _ads(channel: FakeChannel) -> None:
    channel.ad(AD_SEGMENTS)
    time.sleep(10)


def _stalls(channel: FakeChannel) -> None:
    """The encoder stands still for ten seconds; its clock does not."""
    channel.act("pause")
    time.sleep(10)
    channel.act("resume")


NETWORK = frozenset({"network", "source", "playlist"})
SCENARIOS = (
    Scenario("F18", "the session's token dies (403)", _token_dies),
    Scenario("F19", "a segment is 404 once", _one_segment("status", status=404, count=1)),
    Scenario("F19", "a segment is 500 three times", _one_segment("status", status=500, count=3)),
    Scenario(
        "F19", "a segment stays 404", _one_segment("status", status=404), 1, frozenset({"source"})
    ),
    Scenario("F20", "a segment trickles", _one_segment("trickle", seconds=600), 1, NETWORK),
    Scenario("F21", "a segment is cut short once", _one_segment("truncated", count=1)),
    Scenario("F21", "a segment is a web page once", _one_segment("html", count=1)),
    Scenario(
        "F21", "a segment has flipped bytes", _one_segment("corrupt", count=1), damaged=1
    ),
    Scenario("F22", "the playlist is frozen for 25 s", _for(25, "playlist", "frozen")),
    Scenario("F23", "the playlist loops for 15 s", _for(15, "playlist", "loop")),
    Scenario("F24", "timestamps jump, a discontinuity", _discontinuities),
    Scenario("F25", "seven ad segments", _ads),
    Scenario("F26", "no answer for 10 s", _for(10, "any", "hang", seconds=10)),
    Scenario("F26", "connections are reset for 10 s", _for(10, "any", "reset")),
    Scenario("F26", "the encoder stalls for 10 s", _stalls),
    Scenario(
        "F27", "a window of 10 s, no answer for 20 s", _for(20, "any", "reset"), 14, NETWORK,
        options={"window_s": 10, "keep_s": 0},
    ),
)  # fmt: skip


Found = list[tuple[Played, Account | None]]


@pytest.fixture(scope="module")
def played(shared_up: Up, fake_twitch: FakeTwitch, gate: Gate) -> Found:
    channels = [fake_twitch.channel() for _ in SCENARIOS]
    with gate.closed():
        done = play_all(shared_up, channels, SCENARIOS)
        found = [
            (each, None if each.error else account(shared_up, each.recording_id, each.channel))
            for each in done
        ]
    for channel in channels:
        channel.remove()
    return found


@pytest.mark.timeout(420)
def test_faults_of_a_source_cost_what_they_must_and_the_report_says_so(
    played: Found, shared_up: Up, record_property: Callable[..., None]
) -> None:
    wrong = []
    for each, found in played:
        scenario = each.scenario
        if found is None:
            wrong.append(f"{scenario.row} {scenario.words}: {each.error}")
            continue
        record_property("fault", table_line(scenario.row, scenario.words, found, each.recovered_s))
        if not _is_as_it_must(scenario, found):
            wrong.append(f"{scenario.row} {scenario.words}: {found}")
    assert not wrong, "\n".join(wrong)
    for each, _ in played:
        done = shared_up.wait_status(each.recording_id, "completed", timeout_s=180)
        assert done["path"], each.scenario.words


def _is_as_it_must(scenario: Scenario, found: Account) -> bool:
    if len(found.lost) > scenario.may_lose or len(found.damaged) > scenario.damaged:
        return False
    if scenario.row == "F25" and found.told_ad_s != AD_SEGMENTS:
        return False
    causes = set(found.told_gaps) <= (scenario.causes or frozenset({"source"}))
    return found.is_honest and causes
