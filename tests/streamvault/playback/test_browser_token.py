"""The account's token in the player's question to Twitch, and nowhere else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from streamvault.errors import AccessRefused
from streamvault.playback.addresses import host_of
from streamvault.playback.proxies import Proxy
from streamvault.playback.sources import Sources
from streamvault.playback.visits import Visits
from streamvault.source import Wish
from tests.fake_twitch.client import FakeChannel, FakeTwitch

UNKNOWN = "canaryofthebrowser0000000000"
REFUSAL = '{"error": "Unauthorized", "status": 401, "message": "The token is invalid."}'
# What the plugin asks of GQL for one resolve that is refused: once, and once more with the
# integrity token that it does not have.
QUESTIONS = 2


@pytest.fixture
def live(fake_twitch: FakeTwitch) -> Iterator[FakeChannel]:
    channel = fake_twitch.channel(title="Hello", category="Chess", speed=0)
    channel.online()
    yield channel
    fake_twitch.clear_faults()


@pytest.fixture
def token(live: FakeChannel) -> str:
    """One that Twitch takes."""
    return live.fake.browser_token(live.login)


@pytest.fixture
def refused(fake_twitch: FakeTwitch) -> Iterator[Sources]:
    """With a token that Twitch does not take."""
    sources = Sources(fake_twitch.proxy_url, fake_twitch.ca_bundle, lambda: UNKNOWN)
    yield sources
    sources.close()


def headers_by_host(live: FakeChannel, url: str, token: str | None) -> dict[str, set[str | None]]:
    """The Authorization headers that each host was sent while the qualities were looked for."""
    sent: dict[str, set[str | None]] = {}

    def note(answer: requests.Response, *_: Any, **__: Any) -> None:
        header = answer.request.headers.get("Authorization")
        sent.setdefault(host_of(str(answer.url)), set()).add(header)

    with Visits(live.fake.ca_bundle, lambda: token).visit(
        Wish(url), Proxy("p", live.fake.proxy_url)
    ) as visit:
        visit.session.http.hooks["response"].append(note)
        assert visit.streams()
    return sent


def test_only_gql_is_sent_the_token(live: FakeChannel, token: str) -> None:
    sent = headers_by_host(live, live.url, token)
    assert sent.pop("gql.twitch.tv") == {f"OAuth {token}"}
    assert "usher.ttvnw.net" in sent
    assert {header for headers in sent.values() for header in headers} == {None}


def test_without_a_token_nothing_is_sent(live: FakeChannel) -> None:
    sent = headers_by_host(live, live.url, None)
    assert {header for headers in sent.values() for header in headers} == {None}


def test_other_sources_do_not_even_ask_for_the_token(live: FakeChannel) -> None:
    def must_not_be_asked() -> str:
        raise AssertionError("the token was asked for")

    with Visits(live.fake.ca_bundle, must_not_be_asked).visit(Wish(live.master_url)) as visit:
        assert visit.streams()


async def test_what_is_fetched_afterwards_does_not_carry_the_token(
    live: FakeChannel, token: str
) -> None:
    sources = Sources(live.fake.proxy_url, live.fake.ca_bundle, lambda: token)
    live.fake.clear_calls()
    playback = await sources.resolve(Wish(live.url))
    sources.close()
    assert {call.login for call in live.fake.calls("gql")} == {live.login}
    assert token not in repr(playback) and token not in playback.playlist_url
    assert "authorization" not in {name.lower() for name in playback.headers}


async def test_a_token_that_twitch_refuses_costs_no_recording(
    refused: Sources, live: FakeChannel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        playback = await refused.resolve(Wish(live.url))
    assert playback.variant == "180p30"
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["going on without the browser token"]
    assert UNKNOWN not in repr([vars(record) for record in caplog.records])


async def test_a_look_goes_on_without_the_token_too(refused: Sources, live: FakeChannel) -> None:
    assert (await refused.look(Wish(live.url))).title == "Hello"


async def test_a_stream_that_refuses_everybody_is_asked_twice_and_no_more(
    refused: Sources, live: FakeChannel
) -> None:
    rule = live.fault("gql", "status", status=401, body=REFUSAL)
    with pytest.raises(AccessRefused) as caught:
        await refused.resolve(Wish(live.url))
    assert UNKNOWN not in caught.value.one_line
    [found] = [fault for fault in live.fake.state()["faults"] if fault["id"] == rule]
    assert found["hits"] == 2 * QUESTIONS


async def test_nobody_is_asked_twice_without_a_token(live: FakeChannel) -> None:
    live.fault("gql", "status", status=401, body=REFUSAL, count=QUESTIONS)
    sources = Sources(live.fake.proxy_url, live.fake.ca_bundle)
    with pytest.raises(AccessRefused):
        await sources.resolve(Wish(live.url))
    sources.close()


async def test_the_token_is_asked_for_off_the_event_loop(live: FakeChannel) -> None:
    asked_in: list[str] = []

    def token() -> str:
        asked_in.append(threading.current_thread().name)
        return UNKNOWN

    sources = Sources(live.fake.proxy_url, live.fake.ca_bundle, token)
    await sources.resolve(Wish(live.url))
    sources.close()
    assert asked_in and all(name.startswith("source") for name in asked_in)
