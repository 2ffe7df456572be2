"""What is planned for what Twitch lists."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvault.errors import TwitchRefused
from streamvault.twitch.ladder import Rung
from streamvault.twitch.refusals import Meaning, meaning_of
from streamvault.twitch.subscriptions import (
    ONLINE,
    PENDING_FOR,
    TYPES,
    Ours,
    Target,
    Want,
    make_plan,
    wants_of,
)
from streamvault.twitch.words import EventSubscription, SubscriptionList

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CALLBACK = "https://vault.example.org/eventsub"
WEBHOOK = Target(Rung.WEBHOOK, CALLBACK)
CONDUIT = Target(Rung.CONDUIT, "c1")
SOCKET = Target(Rung.WEBSOCKET, "s2")
OURS = Ours(CALLBACK, frozenset({"c1"}), frozenset({"s1", "s2"}))


def at(target: Target, want: Want, *, status: str = "enabled", cost: int = 1) -> EventSubscription:
    """Listed, and sent to the target."""
    place = {
        Rung.WEBHOOK: {"callback": target.place},
        Rung.CONDUIT: {"conduit_id": target.place},
        Rung.WEBSOCKET: {"session_id": target.place},
    }[target.rung]
    return EventSubscription(
        id=f"{want.user_id} {want.type} {target.place}",
        type=want.type,
        version=want.version,
        status=status,
        condition=want.condition,
        method=str(target.rung),
        cost=cost,
        created_at=NOW,
        **place,
    )


def listed(*items: EventSubscription, most: int = 10_000, others: int = 0) -> SubscriptionList:
    cost = sum(item.cost for item in items) + others
    return SubscriptionList(list(items), len(items), cost, most)


def test_going_live_is_wanted_first_of_everybody() -> None:
    wants = wants_of(["7", "8", "7"])
    assert [(want.user_id, want.type, want.version) for want in wants] == [
        ("7", "stream.online", "1"),
        ("8", "stream.online", "1"),
        ("7", "stream.offline", "1"),
        ("8", "stream.offline", "1"),
        ("7", "channel.update", "2"),
        ("8", "channel.update", "2"),
    ]


def test_what_is_missing_is_created_and_what_is_there_is_kept() -> None:
    wants = wants_of(["7"])
    there = at(CONDUIT, wants[1])
    plan = make_plan(wants, listed(there), CONDUIT, OURS, NOW)
    assert plan.keep == {wants[1]: there}
    assert plan.create == [wants[0], wants[2]]
    assert (plan.remove, plan.replaced, plan.no_room) == ([], [], [])


def test_a_channel_that_nobody_follows_any_more_is_removed() -> None:
    gone = at(CONDUIT, Want("9", ONLINE))
    assert make_plan([], listed(gone), CONDUIT, OURS, NOW).remove == [gone]


@pytest.mark.parametrize(
    "stray",
    [
        EventSubscription("x", "channel.update", "1", "enabled", {"broadcaster_user_id": "7"}, ""),
        EventSubscription("x", "channel.follow", "2", "enabled", {"broadcaster_user_id": "7"}, ""),
        EventSubscription("x", "user.authorization.revoke", "1", "enabled", {"client_id": "a"}, ""),
    ],
    ids=["old version", "other type", "no channel"],
)
def test_what_we_never_ask_for_is_removed_where_it_points_to_us(stray: EventSubscription) -> None:
    ours = replace(stray, callback=CALLBACK)
    theirs = replace(stray, callback="https://other.example.org/eventsub")
    plan = make_plan(wants_of(["7"]), listed(ours, theirs), WEBHOOK, OURS, NOW)
    assert plan.remove == [ours]


@pytest.mark.parametrize(
    "place",
    [
        Target(Rung.WEBHOOK, "https://other.example.org/eventsub"),
        Target(Rung.WEBHOOK, f"{CALLBACK}/more"),
        Target(Rung.WEBHOOK, f"{CALLBACK}2"),
        Target(Rung.CONDUIT, "c2"),
        Target(Rung.WEBSOCKET, "s3"),
    ],
    ids=lambda target: str(target.place),
)
@pytest.mark.parametrize("status", ["enabled", "websocket_disconnected", "authorization_revoked"])
def test_what_points_to_somebody_else_is_never_touched(place: Target, status: str) -> None:
    wants = wants_of(["7"])
    theirs = at(place, wants[0], status=status)
    plan = make_plan(wants, listed(theirs), CONDUIT, OURS, NOW)
    assert plan.remove == plan.replaced == []
    assert plan.create == wants


@pytest.mark.parametrize(
    "status",
    ["authorization_revoked", "user_removed", "notification_failures_exceeded", "of_tomorrow"],
)
def test_what_twitch_disabled_is_made_anew(status: str) -> None:
    wants = wants_of(["7"])
    dead = at(CONDUIT, wants[0], status=status)
    plan = make_plan(wants, listed(dead), CONDUIT, OURS, NOW)
    assert plan.remove == [dead]
    assert plan.broken == {wants[0]: dead}
    assert plan.create == wants


def test_a_verification_is_waited_for_but_not_for_ever() -> None:
    wants = wants_of(["7"])
    waiting = at(WEBHOOK, wants[0], status="webhook_callback_verification_pending")
    assert make_plan(wants, listed(waiting), WEBHOOK, OURS, NOW).keep == {wants[0]: waiting}
    late = make_plan(wants, listed(waiting), WEBHOOK, OURS, NOW + PENDING_FOR)
    assert (late.remove, list(late.broken)) == ([waiting], [wants[0]])


def test_what_still_delivers_elsewhere_is_removed_later_and_what_does_not_at_once() -> None:
    wants = wants_of(["7"])
    live = at(CONDUIT, wants[0])
    dead = at(CONDUIT, wants[1], status="conduit_deleted")
    unwanted = at(CONDUIT, Want("9", ONLINE))
    plan = make_plan(wants, listed(live, dead, unwanted), WEBHOOK, OURS, NOW)
    assert plan.replaced == [live]
    assert plan.remove == [dead, unwanted]
    assert plan.create == wants


def test_another_secret_is_another_place_of_ours() -> None:
    wants = wants_of(["7"])
    old = at(WEBHOOK, wants[0])
    plan = make_plan(wants, listed(old), Target(Rung.WEBHOOK, f"{CALLBACK}?secret=1"), OURS, NOW)
    assert (plan.replaced, plan.create) == ([old], wants)


def test_subscriptions_of_a_dead_session_of_ours_are_removed() -> None:
    wants = wants_of(["7"])
    dead = at(Target(Rung.WEBSOCKET, "s1"), wants[0], status="websocket_disconnected", cost=0)
    plan = make_plan(wants, listed(dead, most=10), SOCKET, OURS, NOW)
    assert (plan.remove, plan.create) == ([dead], wants)


def test_a_second_one_of_the_same_is_removed() -> None:
    wants = wants_of(["7"])
    first = at(CONDUIT, wants[0])
    second = replace(first, id="again")
    plan = make_plan(wants, listed(first, second), CONDUIT, OURS, NOW)
    assert (plan.keep[wants[0]], plan.remove) == (first, [second])


def test_polling_wants_nothing_and_leaves_nothing() -> None:
    everything = [at(target, Want("7", ONLINE)) for target in (WEBHOOK, CONDUIT, SOCKET)]
    plan = make_plan([], listed(*everything), Target(Rung.POLL), OURS, NOW)
    assert plan.remove == everything
    assert not plan.keep and not plan.create


# ---- room


def test_what_matters_most_gets_the_room() -> None:
    wants = wants_of(["1", "2", "3", "4"])
    plan = make_plan(wants, listed(most=10), SOCKET, OURS, NOW)
    assert plan.create == wants[:10]
    assert plan.no_room == wants[10:]


def test_others_take_room_too() -> None:
    wants = wants_of(["1", "2"])
    plan = make_plan(wants, listed(most=10, others=7), SOCKET, OURS, NOW)
    assert plan.create == wants[:3]


def test_what_matters_less_makes_room_for_a_new_channel() -> None:
    old, new = wants_of(["1", "2", "3"]), wants_of(["1", "2", "3", "4"])
    there = [at(SOCKET, want) for want in old]
    plan = make_plan(new, listed(*there, most=9), SOCKET, OURS, NOW)
    assert plan.create == [Want("4", "stream.online"), Want("4", "stream.offline")]
    assert {item.type for item in plan.remove} == {"channel.update"}
    assert len(plan.keep) + len(plan.create) == 9


def test_what_costs_nothing_needs_no_room() -> None:
    wants = wants_of(["1", "2"])
    free = [at(SOCKET, want, cost=0) for want in wants]
    plan = make_plan(wants, listed(*free, most=10, others=10), SOCKET, OURS, NOW)
    assert len(plan.keep) == 6
    assert plan.no_room == []


def test_a_socket_holds_three_hundred_however_cheap() -> None:
    wants = wants_of([str(number) for number in range(150)])
    free = [at(SOCKET, want, cost=0) for want in wants[:300]]
    plan = make_plan(wants, listed(*free, most=10), SOCKET, OURS, NOW)
    assert (len(plan.keep), len(plan.no_room), plan.create) == (300, 150, [])


def test_a_limit_that_is_not_told_is_none() -> None:
    wants = wants_of(["1", "2", "3", "4"])
    assert make_plan(wants, listed(most=0), CONDUIT, OURS, NOW).create == wants


places = st.sampled_from(
    [
        WEBHOOK,
        CONDUIT,
        SOCKET,
        Target(Rung.WEBSOCKET, "s1"),
        Target(Rung.CONDUIT, "c2"),
        Target(Rung.WEBHOOK, "https://other.example.org/eventsub"),
    ]
)
items = st.builds(
    lambda target, user, type, status, cost: at(target, Want(user, type), status=status, cost=cost),
    places,
    st.sampled_from("123"),
    st.sampled_from(list(TYPES)),
    st.sampled_from(["enabled", "authorization_revoked", "websocket_disconnected"]),
    st.integers(0, 1),
)


@given(
    st.lists(items, max_size=20, unique_by=lambda item: item.id),
    st.sampled_from([WEBHOOK, CONDUIT, SOCKET]),
    st.sets(st.sampled_from("1234")),
    st.integers(0, 20),
)
def test_after_a_plan_all_that_is_ours_is_wanted_once_and_has_room(
    found: list[EventSubscription], target: Target, users: set[str], most: int
) -> None:
    wants = wants_of(sorted(users))
    plan = make_plan(wants, listed(*found, most=most), target, OURS, NOW)
    ours = {item.id for item in found if OURS.has(item)}
    touched = {item.id for item in (*plan.remove, *plan.replaced)}
    assert touched <= ours
    assert {item.id for item in plan.keep.values()} == ours - touched
    assert set(plan.keep) | set(plan.create) | set(plan.no_room) == set(wants)
    assert not set(plan.keep) & set(plan.create)
    if most:
        cost = sum(item.cost for item in plan.keep.values()) + len(plan.create)
        assert cost <= most or not plan.create


# ---- refusals


@pytest.mark.parametrize(
    ("status", "words", "meaning"),
    [
        (409, "subscription already exists", Meaning.EXISTS),
        (429, "maximum subscriptions with type and condition exceeded", Meaning.TOO_MANY_ALIKE),
        (429, "number of websocket transports limit exceeded", Meaning.NOT_HERE),
        (429, "subscription cost exceeded", Meaning.NO_ROOM),
        (429, "number of subscriptions of the websocket transport exceeded", Meaning.NO_ROOM),
        (429, "", Meaning.NO_ROOM),
        (
            400,
            "websocket transport session does not exist or has already disconnected",
            Meaning.STALE,
        ),
        (400, "a websocket transport cannot serve different users", Meaning.STALE),
        (400, "conduit does not exist", Meaning.STALE),
        (404, "conduit not found", Meaning.STALE),
        (400, "invalid user id in condition", Meaning.NOT_THIS),
        (403, "subscription missing proper authorization", Meaning.NOT_THIS),
        (410, "gone", Meaning.NOT_THIS),
        (401, "invalid access token", Meaning.NO_TOKEN),
    ],
)
def test_what_a_refusal_means(status: int, words: str, meaning: Meaning) -> None:
    text = f"POST api.twitch.tv/helix/eventsub/subscriptions answers {status}: {words}"
    assert meaning_of(TwitchRefused(text, status=status)) == meaning


def test_old_pending_ones_are_judged_by_their_age_alone() -> None:
    wants = wants_of(["7"])
    waiting = at(WEBHOOK, wants[0], status="webhook_callback_verification_pending")
    unknown_age = replace(waiting, created_at=None)
    later = NOW + timedelta(days=1)
    assert make_plan(wants, listed(unknown_age), WEBHOOK, OURS, later).keep == {
        wants[0]: unknown_age
    }
