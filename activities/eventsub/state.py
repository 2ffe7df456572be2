"""Where EventSub's messages go at present: what an installation's processes share of it.

Light to import, since the API asks for a check too and carries no Twitch libraries for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio.client import Client, ScheduleOverlapPolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.engine import temporal_away
from streamvault.contracts import SUBSCRIPTIONS_ID
from streamvault.db import facts
from streamvault.db.session import Database
from streamvault.db.subscriptions import merge_fact
from streamvault.twitch.ladder import NOT_SET_UP, Refusal, Rung

STATE = "eventsub_state"
"""The fact that holds EventSubState; health shows the fact `eventsub`."""
SESSIONS_KEPT = 20  # Twitch goes on listing what belonged to a socket for a while


class EventSubState(msgspec.Struct, frozen=True, kw_only=True):
    """The empty texts of a new installation included, everything may be there or not."""

    transport: str = ""
    conduit_id: str = ""
    session_id: str = ""
    sessions: list[str] = []
    """All that were ours lately, the newest last."""
    secret_number: int = 0
    """Counts the secrets: each new one gets an address of its own."""
    secret_from: datetime | None = None
    """When the newest secret was made."""
    old_secret_seen: datetime | None = None
    """When a subscription with an older secret was last there."""
    refusals: dict[str, dict[str, Any]] = {}

    @property
    def refused(self) -> dict[Rung, Refusal]:
        return {Rung(name): msgspec.convert(said, Refusal) for name, said in self.refusals.items()}


async def read_state(session: AsyncSession) -> EventSubState:
    found = await facts.get_fact(session, STATE)
    return msgspec.convert(found.value if found else {}, EventSubState)


async def change_state(session: AsyncSession, **changes: Any) -> None:
    """Change these; what others write meanwhile stays."""
    await merge_fact(session, STATE, msgspec.to_builtins(changes))


async def note_refusals(session: AsyncSession, refusals: Mapping[Rung, Refusal]) -> None:
    said = {str(rung): msgspec.to_builtins(refusal) for rung, refusal in refusals.items()}
    await change_state(session, refusals=said)


async def say(session: AsyncSession, **known: Any) -> None:
    """What health shows of EventSub."""
    await merge_fact(session, facts.EVENTSUB, msgspec.to_builtins(known))


async def say_not_set_up(db: Database) -> None:
    """For a worker that has no Twitch application: nothing of EventSub runs."""
    value = {"transport": str(Rung.POLL), "wanted": str(Rung.POLL), "reason": NOT_SET_UP}
    async with db.begin() as session:
        await facts.put_fact(session, facts.EVENTSUB, value)


@dataclass(frozen=True)
class SubscriptionCheck:
    """Has the subscriptions looked at now, and not only every ten minutes."""

    client: Client

    async def check_soon(self) -> None:
        """Asked many times at once, it is done once more after what runs. Does nothing without the
        schedule, which a Twitch application brings. Raises DependencyUnavailable."""
        handle = self.client.get_schedule_handle(SUBSCRIPTIONS_ID)
        try:
            await handle.trigger(overlap=ScheduleOverlapPolicy.BUFFER_ONE)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise temporal_away(error) from None
