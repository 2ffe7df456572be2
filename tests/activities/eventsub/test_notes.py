"""The back-off of a channel, on a clock that the test sets."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from activities.eventsub.notes import REFUSED, Notebook, resting
from streamvault.db.subscriptions import LONG_AGO, SubscriptionNote
from streamvault.twitch.ladder import Rung
from streamvault.twitch.subscriptions import Plan, Want
from streamvault.twitch.words import EventSubscription

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WANT = Want("7", "stream.online")
ITEM = EventSubscription(
    "s1",
    "stream.online",
    "1",
    "enabled",
    WANT.condition,
    "conduit",
    conduit_id="c1",
    created_at=NOW,
)


def notebook(now: datetime = NOW, draw: float = 1.0, rung: Rung = Rung.CONDUIT) -> Notebook:
    return Notebook(rung, now, lambda: draw)


def pauses(count: int, draw: float) -> list[float]:
    """How long the channel rests after each of so many failures in a row, in seconds."""
    note: SubscriptionNote | None = None
    found = []
    for _ in range(count):
        note = notebook(draw=draw).failed(WANT, note, REFUSED, "no")
        found.append((note.next_at - NOW).total_seconds())
    return found


def test_a_channel_rests_1_s_doubling_to_15_min_at_most() -> None:
    assert pauses(12, 1.0) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    assert pauses(12, 0.5) == [pause / 2 for pause in pauses(12, 1.0)]
    assert pauses(3, 0.0) == [0, 0, 0]


def test_the_whole_channel_rests_and_no_other_one() -> None:
    failed = notebook().failed(WANT, None, REFUSED, "no")
    other = SubscriptionNote("8", "stream.online")
    notes = {failed.key: failed, other.key: other}
    assert resting(notes, NOW) == {"7": NOW + timedelta(seconds=1)}
    assert resting(notes, NOW + timedelta(seconds=1)) == {}


def test_a_subscription_has_to_last_ten_minutes_before_its_failures_are_forgotten() -> None:
    failed = replace(notebook().failed(WANT, None, REFUSED, "no"), attempts=5)
    young = notebook(NOW + timedelta(minutes=9)).standing(WANT, ITEM, failed)
    assert (young.attempts, young.error, young.status) == (5, "", "enabled")
    old = notebook(NOW + timedelta(minutes=10)).standing(WANT, ITEM, failed)
    assert old.attempts == 0


def test_what_twitch_disabled_again_and_again_is_asked_for_less_and_less_often() -> None:
    note = notebook().standing(WANT, ITEM, None)
    found = []
    for _ in range(4):
        dead = replace(ITEM, status="notification_failures_exceeded")
        plan = Plan(create=[WANT], broken={WANT: dead})
        (note,) = notebook().after_listing(plan, {note.key: note})
        found.append((note.next_at - NOW).total_seconds())
        note = notebook().standing(WANT, ITEM, note)
    assert found == [1, 2, 4, 8]


def test_one_that_is_not_listed_any_more_counts_as_a_failure_except_with_its_socket() -> None:
    stood = notebook().standing(WANT, ITEM, None)
    (gone,) = notebook().after_listing(Plan(create=[WANT]), {stood.key: stood})
    assert (gone.attempts, gone.error) == (1, "Twitch lists it no more")
    socket = replace(stood, transport="websocket")
    same = notebook(rung=Rung.WEBSOCKET).after_listing(Plan(create=[WANT]), {socket.key: socket})
    assert list(same) == []


def test_another_transport_owes_nothing_to_the_one_before() -> None:
    failed = replace(notebook().failed(WANT, None, REFUSED, "no"), attempts=5)
    (fresh,) = notebook(rung=Rung.WEBHOOK).after_listing(Plan(create=[WANT]), {failed.key: failed})
    assert (fresh.attempts, fresh.next_at, fresh.transport) == (0, LONG_AGO, "webhook")


def test_nothing_is_written_when_nothing_has_changed() -> None:
    stood = notebook().standing(WANT, ITEM, None)
    assert list(notebook().after_listing(Plan(keep={WANT: ITEM}), {stood.key: stood})) == []


@pytest.mark.parametrize("status", ["enabled", "webhook_callback_verification_pending"])
def test_a_status_that_twitch_lists_is_noted(status: str) -> None:
    plan = Plan(keep={WANT: replace(ITEM, status=status)})
    (note,) = notebook().after_listing(plan, {})
    assert (note.status, note.subscription_id, note.transport) == (status, "s1", "conduit")
