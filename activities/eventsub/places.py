"""Where each transport sends to: our callback, our conduit, our session; and how we know ours."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from activities.eventsub.state import (
    SESSIONS_KEPT,
    EventSubState,
    change_state,
    read_state,
)
from streamvault.db.session import Database
from streamvault.db.subscriptions import secret_changed_at
from streamvault.errors import TwitchRefused
from streamvault.settings import Settings
from streamvault.twitch.ladder import Rung, callback_of
from streamvault.twitch.subscriptions import Ours, Target

if TYPE_CHECKING:
    from activities.twitch_access import TwitchAccess

log = logging.getLogger(__name__)

SHARD = "0"
ENABLED = "enabled"
# A process that takes webhooks looks a new secret up within five seconds of the first signature
# that fits none it knows.
SECRET_SETTLES = timedelta(seconds=10)
# Twitch repeats a message that it sent before the last old subscription went, and a message is
# taken for ten minutes.
OLD_SECRET_KEPT = timedelta(minutes=11)


@dataclass(frozen=True)
class Places:
    access: TwitchAccess
    settle: timedelta = SECRET_SETTLES
    """How long after it was made a new secret is first used."""

    @property
    def db(self) -> Database:
        return self.access.db

    @property
    def settings(self) -> Settings:
        return self.access.settings

    def ours(self, state: EventSubState) -> Ours:
        base_url = self.settings.base_url
        return Ours(
            callback=callback_of(base_url) if base_url else "",
            conduits=frozenset({state.conduit_id} - {""}),
            sessions=frozenset(state.sessions),
        )

    async def target(self, state: EventSubState) -> Target | None:
        """Of the transport in use; None while there is no place yet to send to."""
        match state.transport:
            case Rung.WEBHOOK:
                return await self._webhook()
            case Rung.CONDUIT if state.conduit_id:
                return Target(Rung.CONDUIT, state.conduit_id)
            case Rung.WEBSOCKET if state.session_id:
                return Target(Rung.WEBSOCKET, state.session_id)
            case Rung.POLL:
                return Target(Rung.POLL)
            case _:
                return None

    # ---- webhook

    async def _webhook(self) -> Target | None:
        """Each secret has an address of its own: so a new subscription can stand before the one
        with the old secret goes, and no message is lost between them."""
        await self.access.eventsub_secret()
        async with self.db.begin() as session:
            changed_at = await secret_changed_at(session)
            state = await read_state(session)
            number = state.secret_number
            if state.secret_from != changed_at:
                number += state.secret_from is not None
                await change_state(
                    session, secret_number=number, secret_from=changed_at, old_secret_seen=None
                )
        if number and changed_at and datetime.now(UTC) - changed_at < self.settle:
            return None
        callback = callback_of(self.settings.base_url)
        return Target(Rung.WEBHOOK, f"{callback}?secret={number}" if number else callback)

    async def note_settled(self, is_settled: bool) -> None:
        """Forget the previous secret once nothing signed with it can come any more."""
        if len(await self.access.eventsub_secrets()) < 2:
            return
        now = datetime.now(UTC)
        async with self.db.begin() as session:
            state = await read_state(session)
            if not is_settled or state.old_secret_seen is None:
                await change_state(session, old_secret_seen=now)
                return
        if now - state.old_secret_seen >= OLD_SECRET_KEPT:
            await self.access.forget_previous_secret()
            log.info("previous EventSub secret forgotten")

    # ---- conduit

    async def conduit(self, state: EventSubState) -> str:
        """The id of our conduit, which is made if there is none.

        Raises TwitchRefused when Twitch gives us none, TwitchUnavailable."""
        known = {conduit.id for conduit in await self.access.helix.conduits()}
        if state.conduit_id in known:
            return state.conduit_id
        made = await self.access.helix.create_conduit(1)
        log.info("conduit made", extra={"conduit_id": made.id})
        async with self.db.begin() as session:
            await change_state(session, conduit_id=made.id)
        return made.id

    async def lead(self, conduit_id: str, session_id: str) -> None:
        """Have the conduit deliver to our socket.

        Raises TwitchRefused, with status 404 when the conduit is gone; TwitchUnavailable."""
        errors = await self.access.helix.assign_shard(conduit_id, SHARD, session_id)
        for error in errors:
            raise TwitchRefused(
                f"the conduit does not take our socket: {error.message}", status=400
            )

    async def is_led(self, conduit_id: str, session_id: str) -> bool:
        """Whether the conduit delivers to our socket. Raises TwitchRefused, TwitchUnavailable."""
        shards = await self.access.helix.shards(conduit_id)
        return any(
            shard.id == SHARD and shard.status == ENABLED and shard.session_id == session_id
            for shard in shards
        )

    # ---- WebSocket

    async def note_session(self, session_id: str) -> None:
        """Empty: there is none at present. Remembered before anything is subscribed for, since
        afterwards it is how we know our own."""
        async with self.db.begin() as session:
            state = await read_state(session)
            others = [known for known in state.sessions if known != session_id]
            sessions = [*others, session_id] if session_id else others
            await change_state(session, session_id=session_id, sessions=sessions[-SESSIONS_KEPT:])
