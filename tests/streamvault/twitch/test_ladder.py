"""Which rung is stood on, for what there is and what Twitch has said."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamvault.twitch.ladder import (
    RETRY_AFTER,
    Means,
    Refusal,
    Rung,
    Standing,
    callback_of,
    choose,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALL = Means("auto", "https://vault.example.org")
NO_URL = replace(ALL, base_url="")
NOBODY = "nobody is signed in at Twitch"


def refused(reason: str = "said no", *, carries: int = 0, minutes_ago: float = 1) -> Refusal:
    return Refusal(reason, NOW - timedelta(minutes=minutes_ago), carries)


def test_with_everything_there_it_is_the_webhook() -> None:
    assert choose(ALL, {}, NOW) == Standing(Rung.WEBHOOK, Rung.WEBHOOK)


def test_without_a_public_address_a_conduit_is_all_that_is_wanted() -> None:
    assert choose(NO_URL, {}, NOW) == Standing(Rung.CONDUIT, Rung.CONDUIT)


@pytest.mark.parametrize(
    "base_url",
    [
        "http://vault.example.org",
        "https://vault.example.org:8443",
        "https://vault.example.org:nonsense",
    ],
)
def test_an_address_that_twitch_does_not_call_is_none(base_url: str) -> None:
    assert choose(replace(ALL, base_url=base_url), {}, NOW).transport == Rung.CONDUIT
    fixed = choose(replace(ALL, base_url=base_url, setting="webhook"), {}, NOW)
    assert (fixed.transport, fixed.wanted) == (Rung.POLL, Rung.WEBHOOK)
    assert fixed.reason == "webhook: webhooks need STREAMVAULT_BASE_URL with https on port 443"


def test_port_443_may_be_said() -> None:
    said = replace(ALL, base_url="https://vault.example.org:443")
    assert choose(said, {}, NOW).transport == Rung.WEBHOOK


def test_a_test_twitch_may_call_anywhere() -> None:
    local = replace(ALL, base_url="http://127.0.0.1:1234", insecure=True)
    assert choose(local, {}, NOW).transport == Rung.WEBHOOK


def test_each_refusal_leads_one_rung_down_and_is_told() -> None:
    refusals = {Rung.WEBHOOK: refused("cannot reach us")}
    assert choose(ALL, refusals, NOW) == Standing(
        Rung.CONDUIT, Rung.WEBHOOK, "webhook: cannot reach us"
    )
    refusals[Rung.CONDUIT] = refused("no conduit")
    assert choose(ALL, refusals, NOW) == Standing(
        Rung.WEBSOCKET, Rung.WEBHOOK, "webhook: cannot reach us; conduit: no conduit"
    )
    refusals[Rung.WEBSOCKET] = refused("no socket")
    standing = choose(ALL, refusals, NOW)
    assert (standing.transport, standing.wanted) == (Rung.POLL, Rung.WEBHOOK)
    assert standing.reason.endswith("; websocket: no socket")


def test_without_an_account_there_is_no_websocket() -> None:
    means = replace(NO_URL, user_problem=NOBODY)
    standing = choose(means, {Rung.CONDUIT: refused("no conduit")}, NOW)
    assert standing.transport == Rung.POLL
    assert standing.reason == f"conduit: no conduit; websocket: {NOBODY}"


def test_without_the_applications_secret_there_is_only_the_websocket() -> None:
    standing = choose(replace(ALL, app_problem="no secret"), {}, NOW)
    assert standing == Standing(
        Rung.WEBSOCKET, Rung.WEBHOOK, "webhook: no secret; conduit: no secret"
    )


@pytest.mark.parametrize("rung", [Rung.WEBHOOK, Rung.CONDUIT, Rung.WEBSOCKET])
def test_a_rung_that_is_told_by_the_setting_falls_to_no_other_push(rung: Rung) -> None:
    means = replace(ALL, setting=str(rung))
    assert choose(means, {}, NOW) == Standing(rung, rung)
    standing = choose(means, {rung: refused()}, NOW)
    assert standing == Standing(Rung.POLL, rung, f"{rung}: said no")


def test_told_to_poll_it_polls_and_nothing_is_wrong() -> None:
    assert choose(replace(ALL, setting="poll"), {}, NOW) == Standing(Rung.POLL, Rung.POLL)


def test_a_refusal_counts_for_an_hour() -> None:
    fresh = {Rung.WEBHOOK: refused(minutes_ago=59.9)}
    assert choose(ALL, fresh, NOW).transport == Rung.CONDUIT
    old = {Rung.WEBHOOK: Refusal("said no", NOW - RETRY_AFTER)}
    assert choose(ALL, old, NOW) == Standing(Rung.WEBHOOK, Rung.WEBHOOK)


def test_when_none_carries_all_the_one_that_carries_most_is_used() -> None:
    refusals = {
        Rung.CONDUIT: refused("room for 15", carries=15),
        Rung.WEBSOCKET: refused("room for 10", carries=10),
    }
    assert choose(NO_URL, refusals, NOW) == Standing(
        Rung.CONDUIT, Rung.CONDUIT, "conduit: room for 15"
    )
    refusals[Rung.WEBSOCKET] = refused("room for 20", carries=20)
    assert choose(NO_URL, refusals, NOW).transport == Rung.WEBSOCKET


def test_of_two_that_carry_as_much_the_lower_one_stays() -> None:
    refusals = {
        Rung.CONDUIT: refused(carries=10),
        Rung.WEBSOCKET: refused(carries=10),
    }
    assert choose(NO_URL, refusals, NOW).transport == Rung.WEBSOCKET


def test_a_rung_that_carries_some_is_better_than_none() -> None:
    means = replace(NO_URL, user_problem=NOBODY)
    standing = choose(means, {Rung.CONDUIT: refused("room for 2", carries=2)}, NOW)
    assert standing == Standing(Rung.CONDUIT, Rung.CONDUIT, "conduit: room for 2")


refusals_of_any_kind = st.dictionaries(
    st.sampled_from([Rung.WEBHOOK, Rung.CONDUIT, Rung.WEBSOCKET]),
    st.builds(
        Refusal,
        st.just("said no"),
        st.integers(0, 120).map(lambda minutes: NOW - timedelta(minutes=minutes)),
        st.integers(0, 3),
    ),
)
means_of_any_kind = st.builds(
    Means,
    st.sampled_from(["auto", "webhook", "conduit", "websocket", "poll"]),
    st.sampled_from(["", "https://vault.example.org"]),
    st.sampled_from(["", "no secret"]),
    st.sampled_from(["", NOBODY]),
)


@given(means_of_any_kind, refusals_of_any_kind)
def test_whoever_does_not_stand_where_he_wants_to_says_why(
    means: Means, refusals: dict[Rung, Refusal]
) -> None:
    standing = choose(means, refusals, NOW)
    assert standing.transport == standing.wanted or standing.reason
    if means.setting != "auto":
        assert standing.transport in (Rung.POLL, Rung(means.setting))
    if standing.transport in (Rung.WEBHOOK, Rung.CONDUIT):
        assert not means.app_problem
    if standing.transport == Rung.WEBSOCKET:
        assert not means.user_problem


def test_the_callback_is_the_path_that_the_api_serves() -> None:
    assert callback_of("https://vault.example.org/") == "https://vault.example.org/eventsub"
