"""EventSub's activities: hold the transport and listen; bring the subscriptions about."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING

from temporalio import activity

from activities.eventsub.listening import Listening, Polls
from activities.eventsub.places import SECRET_SETTLES, Places
from activities.eventsub.rounds import Rounds
from activities.eventsub.state import change_state
from activities.eventsub.subscribing import Subscribing
from activities.progress import beat_for_ever
from streamvault.contracts import Watched
from streamvault.db import streamers
from streamvault.db.listening import listen
from streamvault.metrics.eventsub import EventSubFigures
from streamvault.metrics.websocket import SocketFigures, SubscriptionFigures
from streamvault.twitch.websocket import EventSubSocket, Patience

if TYPE_CHECKING:
    from activities.twitch_access import TwitchAccess

log = logging.getLogger(__name__)

# Long enough to cost nothing, short enough that a new release's code takes over.
LISTEN_FOR = timedelta(hours=6)
BEAT_S = 10.0
# A round that says so soon that another one makes sense is followed by it in the same activity.
SOON_S = 5.0
CHECK_FOR_S = 120.0


@dataclass(frozen=True)
class Figures:
    messages: EventSubFigures
    socket: SocketFigures
    subscriptions: SubscriptionFigures


@dataclass
class EventSub:
    """One in a process."""

    access: TwitchAccess
    detection: Polls
    figures: Figures
    patience: Patience = field(default_factory=Patience)
    settle: timedelta = SECRET_SETTLES
    """How long after it was made a new secret is first used."""
    _places: Places = field(init=False)
    _rounds: Rounds = field(init=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _has_listened: bool = False

    def __post_init__(self) -> None:
        access = self.access
        self._places = Places(access, self.settle)
        subscribing = Subscribing(access.db, access.helix, access.eventsub_secret)
        self._rounds = Rounds(self._places, subscribing, self.figures.subscriptions)

    @activity.defn
    async def listen(self) -> Watched:
        """Stand on the best rung of the ladder, until it is time to start anew."""
        await self._forget_refusals()
        listening = self._listening()
        tasks = [
            asyncio.create_task(listening.run()),
            asyncio.create_task(beat_for_ever(BEAT_S)),
            asyncio.create_task(self._hear_of_changes()),
            asyncio.create_task(activity.wait_for_worker_shutdown()),
        ]
        try:
            done, _ = await asyncio.wait(
                tasks,
                timeout=LISTEN_FOR.total_seconds(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        return Watched(listening.steps)

    @activity.defn
    async def reconcile(self) -> None:
        """Bring the subscriptions to what is wanted now, as far as that goes without waiting long.

        What is left is done by `listen`, which goes on all the time."""
        ends_at = monotonic() + CHECK_FOR_S
        while True:
            activity.heartbeat()
            account = await self._rounds.run()
            self._wake.set()
            # Trouble with Twitch itself does not pass within seconds.
            wait_s = account.next_s if account and not account.problem else None
            if wait_s is None or wait_s > SOON_S or monotonic() + wait_s > ends_at:
                return
            await asyncio.sleep(wait_s)

    async def _hear_of_changes(self) -> None:
        """Whom we follow has changed: what is wanted is looked at now."""
        changed = asyncio.Event()
        hearing = asyncio.create_task(listen(self.access.db, streamers.CHANGED, changed))
        try:
            while True:
                await changed.wait()
                changed.clear()
                self._rounds.due_at = 0.0
                self._wake.set()
        finally:
            hearing.cancel()

    async def rotate_secret(self) -> None:
        """Webhooks are signed with a new secret from now on; no message is lost meanwhile.

        Raises Conflict when a setting fixes it, DependencyUnavailable."""
        await self.access.rotate_eventsub_secret()
        self._rounds.due_at = 0.0
        self._wake.set()

    def _listening(self) -> Listening:
        socket = EventSubSocket(
            self.access.settings.twitch_eventsub_ws_url,
            self.figures.socket,
            ca_bundle=self.access.settings.ca_bundle,
            patience=self.patience,
        )
        return Listening(
            places=self._places,
            rounds=self._rounds,
            socket=socket,
            detection=self.detection,
            heard=self.figures.messages,
            wake=self._wake,
        )

    async def _forget_refusals(self) -> None:
        """A restart tries the best rung again."""
        if self._has_listened:
            return
        async with self.access.db.begin() as session:
            await change_state(session, refusals={})
        self._has_listened = True
