"""Care for the tokens of Twitch: waiting for somebody who signs in, and the hourly look."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from temporalio import activity

from activities import checks
from streamvault.contracts import SignInInput, SignInState, TokensChecked
from streamvault.db import credentials, sign_ins
from streamvault.db.models import SignIn
from streamvault.db.session import Database
from streamvault.errors import (
    DependencyUnavailable,
    RateLimited,
    SecretUnreadable,
    TwitchNotConfigured,
    TwitchRefused,
    TwitchUnavailable,
)

if TYPE_CHECKING:
    from activities.twitch_access import TwitchAccess
    from streamvault.twitch.oauth import TokenSet

log = logging.getLogger(__name__)

SCOPES = ("user:read:follows",)
SLOWER_S = 5.0  # RFC 8628 §3.5; each `slow_down` adds it for good
STORE_AGAIN_S = 2.0


@dataclass(frozen=True)
class Accounts:
    """`twitch` answers None without a Twitch application."""

    db: Database
    twitch: Callable[[], Awaitable[TwitchAccess | None]]

    @activity.defn
    async def await_sign_in(self, order: SignInInput) -> SignInState:
        """Ask Twitch until somebody has entered the code there, or until it ends. `waiting` when
        the worker stops first.

        Raises DependencyUnavailable."""
        interval_s = order.interval_s
        while True:
            activity.heartbeat()
            # Before the first question too: an attempt before this one may just have asked.
            if await _stops_within(interval_s):
                return SignInState(sign_ins.WAITING, interval_s)
            async with self.db.begin() as session:
                row = await sign_ins.find(session, order.sign_in_id)
            if row is None or row.state != sign_ins.WAITING:
                return SignInState(row.state if row else sign_ins.EXPIRED)
            if row.expires_at <= datetime.now(UTC):
                return await self._end(row, sign_ins.EXPIRED, "nobody entered the code in time")
            try:
                ended = await self._ask(row)
            except RateLimited as error:
                interval_s += min(error.retry_after_s, SLOWER_S)
            except TwitchUnavailable as error:
                log.warning("sign-in not asked about", extra={"why": error.one_line})
            else:
                if ended:
                    return ended

    @activity.defn
    async def validate_tokens(self) -> TokensChecked:
        """Twitch wants to be asked about each token at the start and hourly. What is not valid is
        renewed, else marked.

        Raises TwitchUnavailable, DependencyUnavailable."""
        access = await self.twitch()
        if access is None:
            return TokensChecked()
        try:
            await access.tokens.app()
        except (TwitchNotConfigured, TwitchRefused) as error:
            # Marked, and told below; the others' tokens are looked at all the same.
            log.warning("no app token", extra={"why": error.one_line})
        await access.tokens.validate()
        problems = await self._problems()
        for problem in problems:
            log.warning("token needs care", extra={"why": problem})
        return TokensChecked(problems)

    async def _ask(self, row: SignIn) -> SignInState | None:
        """None: nobody has answered yet. Raises TwitchUnavailable."""
        access = await self.twitch()
        if access is None:
            return await self._end(row, sign_ins.FAILED, "no Twitch application is set up any more")
        try:
            code = access.keyring.open(sign_ins.SEALED_PLACE, row.sealed)
            tokens = await access.oauth.poll_device(code, SCOPES)
            if tokens is None:
                return None
            await _connect(access, tokens)
        except TwitchRefused as error:
            return await self._end(row, *_refusal(error))
        except SecretUnreadable as error:
            return await self._end(row, sign_ins.FAILED, error.one_line)
        return await self._end(row, sign_ins.CONNECTED)

    async def _end(self, row: SignIn, state: str, error: str = "") -> SignInState:
        async with self.db.begin() as session:
            await sign_ins.settle(session, row.id, state, error)
        return SignInState(state)

    async def _problems(self) -> list[str]:
        now = datetime.now(UTC)
        async with self.db.begin() as session:
            stored = await credentials.describe_all(session)
        found = (
            checks.of_app_token(stored.get("app_token"), now),
            checks.of_account(stored.get("user_token"), now),
            checks.of_browser_token(stored.get("browser_token"), now),
        )
        bad = (checks.WARNING, checks.ERROR)
        return [f"{check.name}: {check.note}" for check in found if check.state in bad]


async def _connect(access: TwitchAccess, tokens: TokenSet) -> None:
    """Store them, however long that takes: Twitch gives them out once.

    Raises TwitchRefused when they are not valid after all."""
    while True:
        try:
            who = await access.oauth.validate(tokens.access)
            await access.tokens.connect_user(tokens, who)
        except (DependencyUnavailable, TwitchUnavailable) as error:
            log.warning("account not stored yet", extra={"why": error.one_line})
        else:
            log.info("Twitch account connected", extra={"login": who.login})
            return
        activity.heartbeat()
        await asyncio.sleep(STORE_AGAIN_S)


def _refusal(error: TwitchRefused) -> tuple[str, str]:
    """State and words; Twitch tells the reason in the message alone."""
    text = str(error)
    if "access_denied" in text:
        return sign_ins.DENIED, "somebody refused access at Twitch"
    if "invalid device code" in text or "expired_token" in text:
        return sign_ins.EXPIRED, "Twitch does not know the code any more"
    return sign_ins.FAILED, text


async def _stops_within(seconds: float) -> bool:
    """Wait; whether the worker shuts down meanwhile."""
    try:
        await asyncio.wait_for(activity.wait_for_worker_shutdown(), seconds)
    except TimeoutError:
        return False
    return True
