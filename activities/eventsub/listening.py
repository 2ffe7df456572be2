"""Standing on the ladder: which rung, its socket if it has one, and rounds when they are due."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Protocol

from activities.eventsub.ear import Ear
from activities.eventsub.places import Places
from activities.eventsub.rounds import Rounds
from activities.eventsub.state import (
    EventSubState,
    change_state,
    note_refusals,
    read_state,
    say,
)
from streamvault.db.subscriptions import channels_mark
from streamvault.errors import (
    StreamVaultError,
    TokenInvalid,
    TwitchNotConfigured,
    TwitchRefused,
    TwitchUnavailable,
)
from streamvault.metrics.eventsub import EventSubFigures
from streamvault.settings import PREFIX
from streamvault.twitch.frames import Welcome
from streamvault.twitch.ladder import Means, Refusal, Rung, Standing, choose
from streamvault.twitch.websocket import Event, EventSubSocket

log = logging.getLogger(__name__)

SOCKETS = frozenset({Rung.CONDUIT, Rung.WEBSOCKET})
# How soon a sign-in, a setting of another process or a rung that holds again is noticed.
LOOK_EVERY_S = 10.0
RETRY_S = 2.0
# Twitch can take the socket off the conduit without closing it.
CHECK_SHARD_EVERY_S = 60.0
SAY_EVERY_S = 60.0
PROOFS = 3


class Polls(Protocol):
    async def poll_soon(self) -> None: ...


@dataclass
class Listening:
    """One run of `listen`. `wake` has it look at once."""

    places: Places
    rounds: Rounds
    socket: EventSubSocket
    detection: Polls
    heard: EventSubFigures
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    steps: int = 0
    _standing: Standing | None = None
    _ear: Ear = field(init=False)
    _conduit_id: str = ""
    """Of the conduit that Twitch was seen to have."""
    _channels: str = ""
    """Stands for those that are followed."""
    _led: str = ""
    """The session that the conduit delivers to."""
    _lead_failures: int = 0
    _is_new: bool = False
    """Not all stands yet since the place last changed."""
    _check_shard_at: float = 0.0
    _said: dict[str, object] = field(default_factory=dict)
    _say_at: float = 0.0

    def __post_init__(self) -> None:
        self._ear = Ear(self.places.db, self.socket, self.heard, self._changed)

    async def run(self) -> None:
        """Until cancelled; what had come by then is stored."""
        try:
            await self._drive()
        finally:
            await self._ear.disconnect()

    async def _changed(self, event: Event) -> None:
        self.wake.set()
        if isinstance(event, Welcome):
            await self._poll_soon()

    # ---- deciding

    async def _drive(self) -> None:
        while True:
            self.wake.clear()
            self.steps += 1
            try:
                wait_s = await self._step()
            except StreamVaultError as error:
                log.warning("EventSub not in order", extra={"why": error.one_line})
                asked_s = error.retry_after_s if isinstance(error, TwitchUnavailable) else 0.0
                wait_s = max(asked_s, RETRY_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(wait_s, LOOK_EVERY_S)):
                    await self.wake.wait()

    async def _step(self) -> float:
        """Bring about what is missing first; how long nothing is to be done then, in seconds."""
        async with self.places.db.begin() as session:
            state = await read_state(session)
            channels = await channels_mark(session)
        if channels != self._channels:
            self._channels = channels
            self.rounds.due_at = 0.0
        standing = choose(await self._means(), state.refused, datetime.now(UTC))
        if self._standing is None or standing.transport != self._standing.transport:
            await self._move_to(standing)
        self._standing = standing
        if self.rounds.is_stale:
            await self._leave_place()
        await self._say()
        if standing.transport in SOCKETS and not await self._has_place(state):
            return RETRY_S
        if monotonic() >= self.rounds.due_at:
            await self._round()
        return max(self.rounds.due_at - monotonic(), 0.0)

    async def _means(self) -> Means:
        settings = self.places.settings
        return Means(
            setting=settings.eventsub_transport,
            base_url=settings.base_url,
            app_problem=await self._app_problem(),
            user_problem=await self._user_problem(),
            insecure=settings.allow_insecure_twitch,
        )

    async def _app_problem(self) -> str:
        if not self.places.access.configured:
            return f"{PREFIX}TWITCH_CLIENT_SECRET is not set"
        try:
            await self.places.access.tokens.app()
        except TwitchRefused as error:
            return error.one_line
        except TwitchUnavailable:
            # It says nothing about the token, and what follows will wait by itself.
            pass
        return ""

    async def _user_problem(self) -> str:
        try:
            await self.places.access.tokens.user()
        except TwitchNotConfigured:
            return "nobody is signed in at Twitch"
        except TokenInvalid as error:
            return error.one_line
        except TwitchUnavailable:
            pass
        return ""

    async def _move_to(self, standing: Standing) -> None:
        before = self._standing.transport if self._standing else None
        log.info(
            "EventSub transport",
            extra={"transport": str(standing.transport), "why": standing.reason},
        )
        # A socket goes on until webhooks have taken over.
        if standing.transport != Rung.WEBHOOK:
            await self._ear.disconnect()
        async with self.places.db.begin() as session:
            await change_state(session, transport=str(standing.transport), session_id="")
            # What was counted on another rung says nothing of this one.
            await say(session, desired=0, by_status={}, carried=0, cost=0, max_cost=0, problem="")
        self._begin_anew()
        if before is not None:
            await self._poll_soon()

    def _begin_anew(self) -> None:
        self.rounds.due_at = 0.0
        self._is_new = True

    async def _round(self) -> None:
        account = await self.rounds.run(self.wake.is_set)
        if account is None:
            return
        if account.refusal:
            self.wake.set()
        if account.is_settled and self._is_new:
            # What happened before everything stood was told to nobody.
            self._is_new = False
            await self._poll_soon()
            if self._standing and self._standing.transport == Rung.WEBHOOK:
                await self._ear.disconnect()

    async def _leave_place(self) -> None:
        """Look for the conduit again, with another session."""
        self.rounds.is_stale = False
        self._led = self._conduit_id = ""
        await self._ear.disconnect()

    # ---- conduit and socket

    async def _has_place(self, state: EventSubState) -> bool:
        """Whether messages have somewhere to go."""
        assert self._standing is not None
        rung = self._standing.transport
        if rung == Rung.CONDUIT and not await self._has_conduit(state):
            return False
        self._ear.connect(str(rung))
        session_id = self._ear.session_id
        if rung == Rung.CONDUIT:
            return bool(session_id) and await self._lead(session_id)
        if session_id != state.session_id:
            await self.places.note_session(session_id)
            self._begin_anew()
        return bool(session_id)

    async def _has_conduit(self, state: EventSubState) -> bool:
        if self._conduit_id and self._conduit_id == state.conduit_id:
            return True
        try:
            self._conduit_id = await self.places.conduit(state)
        except TokenInvalid:
            # It says nothing about conduits; the ladder asks for the token itself.
            raise
        except TwitchRefused as error:
            await self._refuse(Rung.CONDUIT, error.one_line)
            return False
        return True

    async def _lead(self, session_id: str) -> bool:
        if self._led == session_id and monotonic() >= self._check_shard_at:
            await self._check_shard(session_id)
        if self._led == session_id:
            return True
        try:
            await self.places.lead(self._conduit_id, session_id)
        except TwitchRefused as error:
            await self._not_led(error)
            return False
        self._led, self._lead_failures = session_id, 0
        self._check_shard_at = monotonic() + CHECK_SHARD_EVERY_S
        self._begin_anew()
        await self._poll_soon()
        return True

    async def _not_led(self, error: TwitchRefused) -> None:
        log.warning("conduit not led", extra={"why": error.one_line})
        # It may be gone, which the next look at the list tells.
        self._conduit_id = ""
        self._lead_failures += 1
        if self._lead_failures >= PROOFS:
            self._lead_failures = 0
            await self._refuse(Rung.CONDUIT, error.one_line)

    async def _check_shard(self, session_id: str) -> None:
        self._check_shard_at = monotonic() + CHECK_SHARD_EVERY_S
        try:
            is_led = await self.places.is_led(self._conduit_id, session_id)
        except TwitchRefused:
            is_led = False
        if not is_led:
            log.warning("conduit lost our socket")
            self._led = ""

    async def _refuse(self, rung: Rung, reason: str) -> None:
        async with self.places.db.begin() as session:
            refused = (await read_state(session)).refused
            await note_refusals(session, refused | {rung: Refusal(reason, datetime.now(UTC))})
        self.wake.set()

    # ---- telling

    async def _say(self) -> None:
        assert self._standing is not None
        ear, standing = self._ear, self._standing
        heard_at = ear.heard_at.isoformat() if ear.heard_at else ""
        known: dict[str, object] = {
            "transport": str(standing.transport),
            "wanted": str(standing.wanted),
            "reason": standing.reason,
            "connected": bool(ear.session_id) if standing.transport in SOCKETS else None,
            "lost": ear.lost,
        }
        # Messages come often; their time may be told a little late.
        if known == self._said and monotonic() < self._say_at:
            return
        async with self.places.db.begin() as session:
            await say(session, **known, heard_at=heard_at)
        self._said, self._say_at = known, monotonic() + SAY_EVERY_S

    async def _poll_soon(self) -> None:
        try:
            await self.detection.poll_soon()
        except StreamVaultError as error:
            # It polls by itself before long.
            log.warning("poll not asked for", extra={"why": error.one_line})
