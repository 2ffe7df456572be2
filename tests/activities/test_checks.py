"""What the doctor says of what was found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from activities import checks
from activities.checks import Check, CheckState
from streamvault.db.health import Waiting
from streamvault.db.models import Fact, Proxy
from streamvault.hls.room import Room

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
GB = 1_000_000_000


def fact(age_s: float = 0, **value: Any) -> Fact:
    return Fact(name="some", value=value, updated_at=NOW - timedelta(seconds=age_s))


def waiting(
    inbox: int = 0, oldest_s: float | None = None, dead_letters: int = 0, parked: int = 0
) -> Waiting:
    oldest_at = None if oldest_s is None else NOW - timedelta(seconds=oldest_s)
    return Waiting(inbox, oldest_at, dead_letters, parked)


def test_a_queue_that_nobody_polls_is_named() -> None:
    assert checks.of_workers({"control": 1, "record": 2}).state == "ok"
    check = checks.of_workers({"control": 1, "record": 0, "detect": 0})
    assert (check.state, check.note) == ("error", "nobody polls record, detect")


@pytest.mark.parametrize(
    ("free_gb", "size_gb", "state"),
    [
        # A tenth, but not more than 10 GiB, is little; a fiftieth, but not more than 2 GiB, is the
        # reserve that recordings leave alone.
        (11, 500, "ok"),
        (10, 500, "warning"),
        (3, 500, "warning"),
        (2, 500, "error"),
        (15, 30, "ok"),
        (2.9, 30, "warning"),
        (0.5, 30, "error"),
    ],
)
def test_little_room_warns_and_what_no_recording_may_use_is_an_error(
    free_gb: float, size_gb: float, state: str
) -> None:
    assert checks.of_storage(Room(int(free_gb * GB), int(size_gb * GB), 9)).state == state


@pytest.mark.parametrize(
    ("looks", "state", "words"),
    [
        ([], "off", "none are stored"),
        ([(False, False)], "off", "switched off"),
        ([(True, None)], "ok", "not looked through"),
        ([(True, True), (False, False)], "ok", "1 of 1 work"),
        ([(True, True), (True, False)], "warning", "1 of 2 do not work: p1 (refused)"),
        ([(True, False), (True, False)], "error", "2 of 2 do not work"),
    ],
)
def test_proxies_that_do_not_work_are_named(
    looks: list[tuple[bool, bool | None]], state: str, words: str
) -> None:
    rows = [
        Proxy(name=f"p{at}", enabled=enabled, ok=ok, error="" if ok else "refused")
        for at, (enabled, ok) in enumerate(looks)
    ]
    check = checks.of_proxies(rows)
    assert check.state == state
    assert words in check.note


def test_a_disk_that_takes_no_more_files_is_full() -> None:
    check = checks.of_storage(Room(400 * GB, 500 * GB, 0))
    assert (check.state, "no more files" in check.note) == ("error", True)


# ---- the watchdog


def watched(age_s: float = 15, **told: Any) -> Check:
    value = {"recordings": 2, "silent": 0, "restarted": 0, "adopted": 0, **told}
    return checks.of_watchdog(fact(age_s, **value), NOW)


def test_its_own_silence_is_an_error() -> None:
    assert (watched(60).state, watched(61).state) == ("ok", "error")
    assert checks.of_watchdog(None, NOW).state == "warning"


@pytest.mark.parametrize(
    ("told", "note"),
    [
        ({"silent": 1}, "the recorder does not tell of 1 of 2 unfinished recordings"),
        ({"problem": "no answer"}, "could not see to everything: no answer"),
        ({"neglected": {"live": ["alice", "bob"]}}, "live and not recorded: alice, bob"),
        ({"neglected": {"without_journal": ["1"]}}, "1 recordings have no journal"),
    ],
)
def test_what_it_cannot_help_is_told(told: dict[str, Any], note: str) -> None:
    check = watched(**told)
    assert (check.state, check.note) == ("warning", note)


def test_what_is_no_trouble_is_told_without_an_alarm() -> None:
    assert watched().note == "looks after 2 unfinished recordings"
    assert watched(reconnecting=1).note.endswith("1 of them reconnecting")
    # Somebody gave these up, and knows where they are.
    assert watched(neglected={"left": ["1"], "live": [], "without_journal": []}).state == "ok"


def test_a_circuit_that_is_not_closed_is_named_with_its_pause() -> None:
    closed = {"state": "closed", "retry_after_s": 0}
    assert checks.of_circuits({"helix": closed, "id": closed}).state == "ok"
    broken = {"state": "open", "retry_after_s": 42.4}
    check = checks.of_circuits({"helix": broken, "id": closed})
    assert (check.state, check.note) == ("warning", "helix failed and is asked again in 42 s")
    half = checks.of_circuits({"id": {"state": "half-open", "retry_after_s": 0}})
    assert half.state == "warning"


def test_a_downgrade_of_the_transport_says_why() -> None:
    told = fact(transport="poll", wanted="conduit", reason="Twitch refuses conduits (403)")
    check = checks.of_eventsub(told)
    assert check.state == "warning"
    assert check.note == "poll in place of conduit: Twitch refuses conduits (403)"
    assert checks.of_eventsub(fact(transport="webhook", wanted="webhook")).state == "ok"
    assert checks.of_eventsub(None).state == "warning"
    lost = checks.of_eventsub(fact(transport="conduit", wanted="conduit", connected=False))
    assert (lost.state, lost.note) == ("warning", "conduit: not connected")


@pytest.mark.parametrize(
    ("desired", "by_status", "state"),
    [
        (6, {"enabled": 6}, "ok"),
        (6, {"enabled": 7}, "ok"),
        (6, {"enabled": 5, "authorization_revoked": 1}, "warning"),
        (6, {}, "warning"),
        (0, {}, "off"),
    ],
)
def test_missing_subscriptions_are_counted(
    desired: int, by_status: dict[str, int], state: str
) -> None:
    check = checks.of_subscriptions(fact(desired=desired, by_status=by_status))
    assert check.state == state
    assert ("authorization_revoked" in check.note) == ("authorization_revoked" in by_status)


@pytest.mark.parametrize(("age_s", "state"), [(0, "ok"), (120, "ok"), (121, "error")])
def test_a_poll_is_late_after_three_rounds_and_half_a_minute(age_s: float, state: str) -> None:
    assert checks.of_poll(fact(age_s), 30, NOW).state == state


def test_a_poll_without_helix_or_without_a_round_is_told() -> None:
    assert checks.of_poll(None, 30, NOW).state == "error"
    check = checks.of_poll(fact(1, helix=False, why="Twitch cannot be reached"), 30, NOW)
    assert check.state == "warning"
    assert check.note == "the last round was 1 s ago, without Helix: Twitch cannot be reached"


@pytest.mark.parametrize(
    ("oldest_s", "state"), [(None, "ok"), (5, "ok"), (121, "warning"), (901, "error")]
)
def test_old_messages_in_the_inbox_are_told(oldest_s: float | None, state: str) -> None:
    assert checks.of_inbox(waiting(3, oldest_s), NOW).state == state


def test_what_needs_a_person_is_counted() -> None:
    assert checks.of_dead_letters(waiting()).state == "ok"
    check = checks.of_dead_letters(waiting(dead_letters=2, parked=1))
    assert (check.state, check.note) == ("warning", "3 need a person")


@pytest.mark.parametrize(
    ("skew_s", "state"),
    [(0, "ok"), (5, "ok"), (-5, "ok"), (5.1, "warning"), (-25, "warning"), (26, "error")],
)
def test_a_clock_that_is_wrong_is_told(skew_s: float, state: str) -> None:
    assert checks.of_clock(fact(skew_s=skew_s)).state == state


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (["ok", "off"], "ok"),
        (["ok", "warning"], "degraded"),
        (["ok", "error"], "degraded"),
        (["error", "ok"], "down"),
        (["warning", "ok"], "degraded"),
    ],
)
def test_only_what_is_vital_takes_the_whole_down(states: list[str], status: str) -> None:
    first, second = map(CheckState, states)
    found = [Check("database", first), Check("poll", second)]
    assert checks.overall(found, {"database"}) == status
