"""Rounds of bringing the subscriptions about, and what they leave behind for all to see."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic

from activities.eventsub.places import Places
from activities.eventsub.round import RETRY_S, Account
from activities.eventsub.state import note_refusals, read_state, say
from activities.eventsub.subscribing import Subscribing
from streamvault.errors import TwitchError, TwitchUnavailable
from streamvault.metrics.websocket import SubscriptionFigures
from streamvault.twitch.ladder import Refusal, Rung
from streamvault.twitch.subscriptions import Target

log = logging.getLogger(__name__)

# A new secret settles within seconds.
NO_PLACE_S = 1.0


@dataclass
class Rounds:
    """One at a time in a process."""

    places: Places
    subscribing: Subscribing
    figures: SubscriptionFigures
    due_at: float = 0.0
    """When the next one makes sense, on the monotonic clock."""
    is_stale: bool = False
    """The place that the last one sent to is not there for us."""
    _alone: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, stop: Callable[[], bool] = lambda: False) -> Account | None:
        """None while there is no place to send to. Twitch's trouble is told in the account.

        Raises DependencyUnavailable."""
        async with self._alone:
            async with self.places.db.begin() as session:
                state = await read_state(session)
            try:
                target = await self.places.target(state)
                if target is None:
                    self._put_off(NO_PLACE_S)
                    return None
                account = await self.subscribing.run(
                    target,
                    self.places.ours(state),
                    has_app=self.places.access.configured,
                    stop=stop,
                )
            except TwitchError as error:
                return await self._failed(error)
            self.is_stale = account.is_stale
            await self._tell(target, account)
            self._put_off(account.next_s)
            return account

    def _put_off(self, wait_s: float | None) -> None:
        self.due_at = math.inf if wait_s is None else monotonic() + wait_s

    async def _failed(self, error: TwitchError) -> Account:
        asked_s = error.retry_after_s if isinstance(error, TwitchUnavailable) else 0.0
        log.warning("subscriptions not looked at", extra={"why": error.one_line})
        async with self.places.db.begin() as session:
            await say(session, problem=error.one_line)
        account = Account(problem=error.one_line, next_s=max(asked_s, RETRY_S))
        self._put_off(account.next_s)
        return account

    async def _tell(self, target: Target, account: Account) -> None:
        self.figures.note(account.by_status, account.desired)
        async with self.places.db.begin() as session:
            await say(
                session,
                desired=account.desired,
                by_status=account.by_status,
                channels=account.channels,
                carried=account.carried,
                cost=account.cost,
                max_cost=account.max_cost,
                problem=account.problem,
                checked_at=datetime.now(UTC),
            )
            refused = (await read_state(session)).refused
            if (now := _after(refused, target.rung, account)) != refused:
                await note_refusals(session, now)
        if target.rung == Rung.WEBHOOK:
            await self.places.note_settled(account.is_settled)


def _after(refused: dict[Rung, Refusal], rung: Rung, account: Account) -> dict[Rung, Refusal]:
    """A rung that holds again is told so, unless the round did not come far enough to know."""
    others = {known: said for known, said in refused.items() if known != rung}
    if account.refusal:
        return others | {rung: account.refusal}
    return others if account.is_settled else refused
