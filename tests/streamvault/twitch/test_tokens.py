from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from streamvault.errors import (
    DependencyUnavailable,
    TokenInvalid,
    TwitchNotConfigured,
    TwitchRefused,
    TwitchUnavailable,
)
from streamvault.twitch.oauth import TokenSet, Validation
from streamvault.twitch.tokens import APP, BROWSER, USER, StoredToken
from tests.streamvault.twitch.twitch_api import Api, MemoryStore, Twitch, api, form, said


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Rotating(Twitch):
    """A refresh token works once: with it comes the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = "refresh-1"
        self.refreshed = 0
        self.answers["POST /token"] = self.token

    def token(self, request: httpx.Request) -> Any:
        fields = form(request)
        if fields["grant_type"] == "client_credentials":
            self.made += 1
            return {"access_token": f"app-{self.made}", "expires_in": 100}
        if fields["refresh_token"] != self.alive:
            return said(400, "Invalid refresh token")
        self.refreshed += 1
        self.alive = f"refresh-{self.refreshed + 1}"
        return {
            "access_token": f"user-{self.refreshed + 1}",
            "refresh_token": self.alive,
            "expires_in": 14_400,
        }


SIGNED_IN = StoredToken("user-1", "refresh-1", login="alice", user_id="7", scopes=("a",))
ALICE = Validation("alice", "7", ("a",), 14_400, "client")


@pytest.fixture
def twitch() -> Rotating:
    return Rotating()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def our(twitch: Rotating, clock: Clock) -> AsyncIterator[Api]:
    async with api(twitch, clock=clock) as made:
        yield made


async def test_an_app_token_is_made_once_and_kept(twitch: Rotating, our: Api) -> None:
    assert set(await asyncio.gather(*(our.tokens.app() for _ in range(50)))) == {"app-1"}
    assert our.store.kept[APP].access == "app-1"
    assert our.store.kept[APP].expires_at


async def test_an_app_token_of_another_process_is_taken_rather_than_made(
    twitch: Rotating, our: Api
) -> None:
    our.store.kept[APP] = StoredToken("of-another-process")
    assert await our.tokens.app() == "of-another-process"
    our.store.kept[APP] = StoredToken("a-newer-one")
    assert await our.tokens.app_after("of-another-process") == "a-newer-one"
    assert twitch.calls == []


async def test_id_and_secret_that_are_refused_are_not_tried_again_at_once(
    twitch: Rotating, our: Api, clock: Clock
) -> None:
    twitch.answers["POST /token"] = said(403, "invalid client secret")
    for _ in range(20):
        with pytest.raises(TwitchRefused, match="invalid client secret"):
            await our.tokens.app()
    assert len(twitch.calls) == 1
    kept = our.store.kept[APP]
    assert (kept.valid, "invalid client secret" in kept.problem) == (False, True)
    clock.now += 31
    twitch.answers["POST /token"] = twitch.token
    assert await our.tokens.app() == "app-1"
    assert our.store.kept[APP].valid


async def test_nobody_signed_in_is_told_as_that(twitch: Rotating, our: Api) -> None:
    for ask in (our.tokens.user, lambda: our.tokens.user_after("x")):
        with pytest.raises(TwitchNotConfigured, match="no Twitch account is connected"):
            await ask()
    assert await our.tokens.browser() is None
    assert twitch.calls == []


async def test_many_401_at_once_refresh_once(twitch: Rotating, our: Api) -> None:
    our.store.kept[USER] = SIGNED_IN
    found = await asyncio.gather(*(our.tokens.user_after("user-1") for _ in range(100)))
    assert set(found) == {"user-2"}
    assert twitch.refreshed == 1
    kept = our.store.kept[USER]
    assert (kept.access, kept.refresh) == ("user-2", "refresh-2")
    assert (kept.login, kept.user_id, kept.scopes) == ("alice", "7", ("a",))


async def test_two_processes_that_refresh_at_once_do_it_once(twitch: Rotating) -> None:
    store = MemoryStore({USER: SIGNED_IN})
    async with AsyncExitStack() as stack:
        two = [await stack.enter_async_context(api(twitch, store=store)) for _ in range(2)]
        assert {await process.tokens.user() for process in two} == {"user-1"}
        found = await asyncio.gather(*(p.tokens.user_after("user-1") for p in two for _ in "ab"))
    assert set(found) == {"user-2"}
    assert twitch.refreshed == 1


async def test_a_refresh_that_is_refused_ends_the_account_once(
    twitch: Rotating, our: Api, clock: Clock
) -> None:
    """F17: asked for again at every call, a dead token would cost a request each time."""
    our.store.kept[USER] = SIGNED_IN
    twitch.alive = "another"
    for _ in range(3):
        with pytest.raises(TokenInvalid):
            await our.tokens.user_after("user-1")
        with pytest.raises(TokenInvalid, match="must be connected again"):
            await our.tokens.user()
        clock.now += 60
    assert len(twitch.calls) == 1
    kept = our.store.kept[USER]
    assert not kept.valid
    assert "Invalid refresh token" in kept.problem
    assert kept.login == "alice"
    # The app side goes on.
    assert await our.tokens.app() == "app-1"


async def test_a_refresh_that_fails_for_another_reason_ends_nothing(
    twitch: Rotating, our: Api
) -> None:
    our.store.kept[USER] = SIGNED_IN
    for answer in (httpx.Response(503), said(403, "invalid client secret")):
        twitch.answers["POST /token"] = answer
        with pytest.raises((TwitchUnavailable, TwitchRefused)):
            await our.tokens.user_after("user-1")
    assert our.store.kept[USER] == SIGNED_IN


async def test_a_caller_that_is_cancelled_does_not_lose_the_new_refresh_token(
    twitch: Rotating, our: Api
) -> None:
    our.store.kept[USER] = SIGNED_IN
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(request: httpx.Request) -> httpx.Response:
        asked.set()
        await answer.wait()
        return twitch(request)

    async with api(slow, store=our.store) as process:  # type: ignore[arg-type]  # httpx takes both
        caller = asyncio.create_task(process.tokens.user_after("user-1"))
        await asked.wait()
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()
        answer.set()
        await process.tokens.close()
    assert our.store.kept[USER].refresh == "refresh-2"


async def test_a_new_refresh_token_survives_a_database_that_is_away(
    twitch: Rotating, our: Api
) -> None:
    """The old one is dead when the new one cannot be stored."""

    class Away(MemoryStore):
        def locked(self, name: str) -> Any:
            inner = super().locked(name)

            class Lost:
                async def __aenter__(self) -> Any:
                    self.held = await inner.__aenter__()
                    return self.held

                async def __aexit__(self, *error: Any) -> None:
                    self.held.token = None
                    await inner.__aexit__(*error)
                    raise DependencyUnavailable("the database cannot be reached")

            return Lost()

    store = Away({USER: SIGNED_IN})
    async with api(twitch, store=store) as process:
        with pytest.raises(DependencyUnavailable):
            await process.tokens.user_after("user-1")
        assert twitch.alive == "refresh-2"
        process.tokens._store = our.store
        our.store.kept[USER] = SIGNED_IN
        assert await process.tokens.user_after("user-1") == "user-2"
    assert twitch.refreshed == 1
    assert our.store.kept[USER].refresh == "refresh-2"


async def test_signing_in_anew_replaces_what_was_dead(
    twitch: Rotating, our: Api, clock: Clock
) -> None:
    our.store.kept[USER] = SIGNED_IN
    twitch.alive = "another"
    with pytest.raises(TokenInvalid):
        await our.tokens.user_after("user-1")
    await our.tokens.connect_user(TokenSet("bob-1", "bob-refresh"), ALICE)
    assert await our.tokens.user() == "bob-1"
    await our.tokens.forget(USER)
    with pytest.raises(TwitchNotConfigured):
        await our.tokens.user()


async def test_what_another_process_changed_is_seen_within_half_a_minute(
    our: Api, clock: Clock
) -> None:
    our.store.kept[USER] = SIGNED_IN
    assert await our.tokens.user() == "user-1"
    our.store.kept[USER] = StoredToken("of-another-account", "r")
    clock.now += 30
    assert await our.tokens.user() == "of-another-account"
    del our.store.kept[USER]
    clock.now += 30
    with pytest.raises(TwitchNotConfigured):
        await our.tokens.user()


async def test_a_known_token_is_used_while_the_database_is_away(our: Api, clock: Clock) -> None:
    our.store.kept[APP] = StoredToken("known")
    assert await our.tokens.app() == "known"

    async def away(_: str) -> StoredToken | None:
        raise DependencyUnavailable("the database cannot be reached")

    our.store.read = away  # type: ignore[method-assign]  # the store of the test, not our code
    clock.now += 300
    assert await our.tokens.app() == "known"


# ---- the hourly look


def valid(twitch: Rotating, *tokens: str) -> None:
    def validate(request: httpx.Request) -> Any:
        token = request.headers["authorization"].removeprefix("OAuth ")
        if token not in tokens:
            return said(401, "invalid access token")
        return {"client_id": "x", "login": "alice", "user_id": "7", "expires_in": 1_000}

    twitch.answers["GET /validate"] = validate


async def test_valid_tokens_are_noted_as_that(twitch: Rotating, our: Api) -> None:
    valid(twitch, "app-0", "user-1", "browser-1")
    our.store.kept |= {
        APP: StoredToken("app-0"),
        USER: SIGNED_IN,
        BROWSER: StoredToken("browser-1"),
    }
    await our.tokens.validate()
    for name in (APP, USER, BROWSER):
        kept = our.store.kept[name]
        assert kept.valid
        assert kept.validated_at
        assert kept.expires_at
    assert our.store.kept[USER].refresh == "refresh-1"
    sample = our.metrics.registry.get_sample_value
    for kind in ("app", "user", "browser"):
        assert sample("streamvault_twitch_token_valid", {"kind": kind}) == 1


async def test_what_is_not_valid_is_renewed_or_marked(twitch: Rotating, our: Api) -> None:
    valid(twitch)
    our.store.kept |= {
        APP: StoredToken("app-0"),
        USER: SIGNED_IN,
        BROWSER: StoredToken("browser-1", login="alice"),
    }
    await our.tokens.validate()
    assert our.store.kept[APP].access == "app-1"
    assert our.store.kept[USER].access == "user-2"
    browser = our.store.kept[BROWSER]
    assert (browser.valid, browser.login) == (False, "alice")
    assert await our.tokens.browser() is None
    sample = our.metrics.registry.get_sample_value
    assert sample("streamvault_twitch_token_valid", {"kind": "app"}) == 1
    assert sample("streamvault_twitch_token_valid", {"kind": "browser"}) == 0


async def test_a_user_who_took_the_consent_back_is_marked_and_the_rest_goes_on(
    twitch: Rotating, our: Api
) -> None:
    valid(twitch, "browser-1")
    twitch.alive = "another"
    our.store.kept |= {USER: SIGNED_IN, BROWSER: StoredToken("browser-1")}
    await our.tokens.validate()
    assert not our.store.kept[USER].valid
    assert our.store.kept[BROWSER].valid


async def test_twitch_away_marks_nothing_and_is_told_after_all_were_tried(
    twitch: Rotating, our: Api
) -> None:
    twitch.answers["GET /validate"] = httpx.Response(503)
    before = {APP: StoredToken("app-0"), USER: SIGNED_IN}
    our.store.kept |= before
    with pytest.raises(TwitchUnavailable):
        await our.tokens.validate()
    assert our.store.kept == before
    assert twitch.count("/validate") == 2


async def test_a_browser_token_is_kept_with_or_without_twitchs_word(our: Api) -> None:
    await our.tokens.keep_browser_token("browser-1", None)
    assert await our.tokens.browser() == "browser-1"
    assert our.store.kept[BROWSER].validated_at is None
    await our.tokens.keep_browser_token("browser-2", ALICE)
    assert await our.tokens.browser() == "browser-2"
    assert our.store.kept[BROWSER].login == "alice"
    await our.tokens.forget(BROWSER)
    assert await our.tokens.browser() is None
