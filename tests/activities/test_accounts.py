"""The hourly look at the tokens, against the fake Twitch."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.accounts import Accounts
from activities.twitch_access import TwitchAccess
from activities.twitch_facts import TwitchFacts, facts_of
from streamvault.contracts import TokensChecked
from streamvault.db import credentials, facts
from streamvault.db.credentials import SealedCredential
from streamvault.db.session import Database
from streamvault.errors import TwitchUnavailable
from streamvault.metrics.system import Metrics
from streamvault.settings import check_settings
from streamvault.twitch.oauth import TokenSet
from tests.fake_twitch.client import Application, FakeTwitch

ALICE = "alice_of_the_tokens"
PREFIX = "STREAMVAULT_"

Opened = Callable[..., TwitchAccess]


@pytest.fixture
def application(fake_twitch: FakeTwitch) -> Application:
    fake_twitch.channel(ALICE)
    return fake_twitch.application()


@pytest.fixture
async def opened(db: Database, tmp_path: Path, application: Application) -> AsyncIterator[Opened]:
    made: list[TwitchAccess] = []

    def open_one(**overrides: Any) -> TwitchAccess:
        env = {n.removeprefix(PREFIX).lower(): v for n, v in application.env.items() if v}
        settings = check_settings({"data_dir": tmp_path, **env, **overrides})
        made.append(TwitchAccess.open(settings, db, Metrics()))
        return made[-1]

    yield open_one
    for access in made:
        await access.close()


async def look(access: TwitchAccess | None, db: Database) -> TokensChecked:
    async def twitch() -> TwitchAccess | None:
        return access

    checked: TokensChecked = await ActivityEnvironment().run(Accounts(db, twitch).validate_tokens)
    return checked


async def connect(access: TwitchAccess, fake: FakeTwitch, application: Application) -> None:
    token = fake.sign_in(ALICE, app=application)
    who = await access.oauth.validate(token.access_token)
    tokens = TokenSet(token.access_token, token.refresh_token, token.scopes, 14_000)
    await access.tokens.connect_user(tokens, who)


async def keep_browser_token(access: TwitchAccess, fake: FakeTwitch, left: timedelta) -> str:
    token = fake.browser_token(ALICE, expires_in_s=left.total_seconds())
    await access.tokens.keep_browser_token(token, await access.oauth.validate(token))
    return token


async def stored(db: Database) -> dict[str, SealedCredential]:
    async with db.begin() as session:
        return await credentials.describe_all(session)


async def test_a_first_look_gets_an_app_token(
    opened: Opened, db: Database, fake_twitch: FakeTwitch, application: Application
) -> None:
    assert await look(opened(), db) == TokensChecked([])
    row = (await stored(db))["app_token"]
    assert row.valid and row.validated_at is not None
    assert await look(opened(), db) == TokensChecked([])
    # Looked at again, it is not made anew.
    assert len(fake_twitch.calls("auth.token", app=application)) == 1


async def test_without_an_application_there_is_nothing_to_look_at(db: Database) -> None:
    assert await look(None, db) == TokensChecked([])


async def test_an_app_token_that_twitch_took_back_is_made_anew(
    opened: Opened, db: Database, fake_twitch: FakeTwitch, application: Application
) -> None:
    await look(opened(), db)
    fake_twitch.revoke_app_tokens(app=application)
    assert await look(opened(), db) == TokensChecked([])
    assert len(fake_twitch.calls("auth.token", app=application)) == 2


async def test_an_access_token_of_the_account_that_has_ended_is_refreshed(
    opened: Opened, db: Database, fake_twitch: FakeTwitch, application: Application
) -> None:
    access = opened()
    await connect(access, fake_twitch, application)
    fake_twitch.expire_tokens(ALICE, app=application)
    assert await look(access, db) == TokensChecked([])
    assert (await stored(db))["user_token"].valid


async def test_an_account_that_was_disconnected_at_twitch_is_told_and_the_app_goes_on(
    opened: Opened,
    db: Database,
    fake_twitch: FakeTwitch,
    application: Application,
    caplog: pytest.LogCaptureFixture,
) -> None:
    access = opened()
    await connect(access, fake_twitch, application)
    fake_twitch.disconnect(ALICE, app=application)
    with caplog.at_level(logging.WARNING, logger="activities"):
        [problem] = (await look(access, db)).problems
    assert problem.startswith(f"account: of {ALICE}, not valid: ")
    assert problem in [getattr(record, "why", "") for record in caplog.records]
    rows = await stored(db)
    assert (rows["user_token"].valid, rows["app_token"].valid) == (False, True)
    # Told every hour, but Twitch is not asked for it any more.
    before = len(fake_twitch.calls("auth.token", app=application))
    assert (await look(access, db)).problems == [problem]
    assert len(fake_twitch.calls("auth.token", app=application)) == before


async def test_a_secret_that_twitch_refuses_is_told(opened: Opened, db: Database) -> None:
    access = opened(twitch_client_secret="not-the-secret-of-this-application")
    [problem] = (await look(access, db)).problems
    assert problem.startswith("app_token: not valid: ")
    assert "not-the-secret" not in problem


@pytest.mark.parametrize(("left", "told"), [(timedelta(days=8), 0), (timedelta(days=6), 1)])
async def test_a_browser_token_is_told_of_a_week_before_it_ends(
    opened: Opened, db: Database, fake_twitch: FakeTwitch, left: timedelta, told: int
) -> None:
    access = opened()
    token = await keep_browser_token(access, fake_twitch, left)
    problems = (await look(access, db)).problems
    assert [problem.split(":")[0] for problem in problems] == ["browser_token"] * told
    assert token not in str(problems)


async def test_while_twitch_is_away_the_look_is_tried_again(
    opened: Opened, db: Database, fake_twitch: FakeTwitch
) -> None:
    access = opened()
    await look(access, db)
    fake_twitch.fault("auth.validate", "status", status=503, count=1)
    with pytest.raises(TwitchUnavailable):
        await look(access, db)
    assert await look(access, db) == TokensChecked([])


# ---- what is shared with the other processes


async def test_circuits_limit_and_clock_are_shared(
    opened: Opened, db: Database, fake_twitch: FakeTwitch, application: Application
) -> None:
    access = opened()
    with fake_twitch.knobs(date_skew_s=90):
        await access.helix.users(logins=[ALICE])
    await TwitchFacts(db, access).share()
    async with db.begin() as session:
        known = await facts.all_facts(session)
    assert known[facts.CIRCUITS].value["helix"]["state"] == "closed"
    # 800 points a minute, and one was spent.
    assert known[facts.RATELIMIT].value["app"]["limit"] == 800
    assert known[facts.RATELIMIT].value["app"]["remaining"] == 799
    assert known[facts.CLOCK].value["skew_s"] == pytest.approx(90, abs=2)
    secrets = [application.client_secret, await access.tokens.app()]
    assert not any(secret in str(facts_of(access)) for secret in secrets)


async def test_facts_are_written_when_a_circuit_changes_and_not_each_time(
    opened: Opened, db: Database, fake_twitch: FakeTwitch
) -> None:
    access = opened()
    sharing = TwitchFacts(db, access)

    async def shared_at() -> Any:
        await sharing.share()
        async with db.begin() as session:
            fact = await facts.get_fact(session, facts.CIRCUITS)
            assert fact is not None
            return fact.updated_at, fact.value["id"]["state"]

    first = await shared_at()
    assert await shared_at() == first
    fake_twitch.fault("auth.validate", "status", status=500, count=5)
    for _ in range(5):
        with pytest.raises(TwitchUnavailable):
            await access.oauth.validate("sometokenofsomebody")
    changed = await shared_at()
    assert changed[0] > first[0] and (first[1], changed[1]) == ("closed", "open")
