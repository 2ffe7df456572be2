"""The reconcile poll: who of those we follow is live, whatever the other sources said.

It starts what was missed and passes on what changed; it never stops anything by itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy.exc import SQLAlchemyError
from temporalio import activity

from activities.detection import CAPTURING, FILTERED, NOT_LIVE, STOPPED, Detection
from activities.progress import beat_for_ever
from activities.twitch_facts import TwitchFacts
from streamvault.contracts import Status, Watched
from streamvault.db import facts, recordings, streamers
from streamvault.db.listening import listen
from streamvault.db.recordings import OpenSource
from streamvault.db.session import Database
from streamvault.db.streamers import EnabledStreamer
from streamvault.errors import SecretUnreadable, StreamVaultError, TwitchError
from streamvault.source import News

if TYPE_CHECKING:
    from activities.twitch_access import TwitchAccess
    from streamvault.twitch.words import LiveStream

log = logging.getLogger(__name__)

# Long enough to cost nothing, short enough that a new release's code takes over.
WATCH_FOR = timedelta(hours=6)
BEAT_S = 5.0
SHARE_EVERY_S = 5.0
# A list of streamers is added one by one, and each of them asks for a poll.
GATHER_S = 0.5
JITTER = 0.1
# Get Streams has answered empty for a live stream, so one absence says nothing (twitchdev #558).
ABSENT_FOR_S = 30.0
ABSENT_TIMES = 2
# Without Helix the player is asked, one channel at a time: each look is a request and 10 ms of CPU.
LOOKS_A_ROUND = 120
LOOKS_AT_ONCE = 4
STARTS_AT_ONCE = 20


@dataclass(frozen=True)
class _Running:
    """What is recorded at the moment."""

    rows: Sequence[OpenSource]

    def status_of(self, source_key: str) -> str:
        """ "" when nothing stands for that source."""
        return next((row.status for row in self.rows if row.source_key == source_key), "")

    @property
    def captured(self) -> frozenset[UUID | None]:
        """The streamers who are being captured."""
        return frozenset(row.streamer_id for row in self.rows if row.status in CAPTURING)


@dataclass
class _Absence:
    """Since when somebody who was live is missing."""

    since: float
    times: int = 1
    told: bool = False


@dataclass
class Polling:
    db: Database
    detection: Detection
    interval_s: float
    twitch: Callable[[], Awaitable[TwitchAccess | None]]
    """None without a Twitch application."""
    complete_profiles: Callable[[], Awaitable[None]]
    absent_for_s: float = ABSENT_FOR_S
    _absent: dict[str, _Absence] = field(default_factory=dict)
    _settled: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Why somebody who is live is not recorded, with what it depends on: nothing to ask again."""
    _next_look: int = 0

    @activity.defn
    async def detect_live(self) -> Watched:
        """Rounds of polling, until it is time to start anew."""
        beside = [
            asyncio.create_task(beat_for_ever(BEAT_S)),
            asyncio.create_task(listen(self.db, streamers.CHANGED, self.detection.soon)),
            asyncio.create_task(self._share_circuits()),
        ]
        rounds, began = 0, monotonic()
        try:
            while monotonic() - began < WATCH_FOR.total_seconds():
                await self._round()
                rounds += 1
                if await self._pause():
                    break
            return Watched(rounds)
        finally:
            for task in beside:
                task.cancel()

    async def _share_circuits(self) -> None:
        """The other processes show what this one knows of Twitch."""
        access = await self.twitch()
        if access is None:
            return
        known = TwitchFacts(self.db, access)
        while True:
            try:
                await known.share()
            except (StreamVaultError, SQLAlchemyError) as error:
                log.warning("circuits not told", extra={"why": str(error)})
            await asyncio.sleep(SHARE_EVERY_S)

    async def _pause(self) -> bool:
        """Until the next round; whether the worker shuts down."""
        pause_s = self.interval_s * random.uniform(1 - JITTER, 1 + JITTER)
        stopping = asyncio.create_task(activity.wait_for_worker_shutdown())
        asked = asyncio.create_task(self.detection.soon.wait())
        done, rest = await asyncio.wait(
            {stopping, asked}, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED
        )
        for task in rest:
            task.cancel()
        if asked in done and stopping not in done:
            await asyncio.sleep(GATHER_S)
        self.detection.soon.clear()
        return stopping in done

    async def _round(self) -> None:
        try:
            await self.complete_profiles()
            async with self.db.begin() as session:
                rows = await streamers.list_enabled(session)
                running = _Running(await recordings.open_sources(session))
            await self._look_at_all(rows, running)
        except StreamVaultError as error:
            # The next round is the next try.
            log.warning("poll not finished", extra={"why": error.one_line})

    async def _look_at_all(self, rows: Sequence[EnabledStreamer], running: _Running) -> None:
        """Helix for Twitch's; the player for the others, and for all while Helix is away."""
        access = await self.twitch()
        on_twitch = [row for row in rows if row.platform == "twitch" and row.user_id]
        rest = [row for row in rows if row not in on_twitch] if access else list(rows)
        why = "no Twitch application is set up" if access is None else ""
        live = 0
        if access is not None and on_twitch:
            try:
                live = await self._ask_helix(access, on_twitch, running)
            except (TwitchError, SecretUnreadable) as error:
                why, rest = error.one_line, list(rows)
        await self._ask_players(rest, running)
        async with self.db.begin() as session:
            value = {"streamers": len(rows), "live": live, "helix": not why, "why": why}
            await facts.put_fact(session, facts.POLL, value)

    # ---- Helix

    async def _ask_helix(
        self, access: TwitchAccess, rows: Sequence[EnabledStreamer], running: _Running
    ) -> int:
        found = await access.helix.streams([row.user_id for row in rows if row.user_id])
        live = {stream.user_id: stream for stream in found if stream.kind == "live"}
        here = [(row, live[row.user_id]) for row in rows if row.user_id in live]
        await _all(STARTS_AT_ONCE, [self._seen_live(row, s, running) for row, s in here])
        await _all(
            STARTS_AT_ONCE,
            [
                self._seen_absent(row, row.id in running.captured)
                for row in rows
                if row.user_id not in live
            ],
        )
        return len(live)

    async def _seen_live(self, row: EnabledStreamer, stream: LiveStream, running: _Running) -> None:
        self._absent.pop(str(row.id), None)
        said = (stream.title, stream.category, stream.category_id)
        if said != (row.title, row.category, row.category_id):
            await self.detection.heard_channel(
                str(row.id),
                title=stream.title,
                category=stream.category,
                category_id=stream.category_id,
                at=datetime.now(UTC),
                told_by="poll",
            )
        status = running.status_of(f"twitch:{stream.id}")
        if status in CAPTURING and status != Status.DETECTING:
            if row.live_stream_id != stream.id:
                # Somebody said offline too early.
                async with self.db.begin() as session:
                    await streamers.note_live(session, row.id, stream.id, stream.started_at)
            return
        news = News(
            str(row.id), "poll", stream.id, stream.title, stream.category, stream.started_at
        )
        await self._found(news, f"{stream.id} {stream.title} {stream.category} {row.filters}")

    async def _found(self, news: News, state: str) -> None:
        """`state` is what a refusal depends on: unchanged, it would be the same again."""
        settled = self._settled.get(news.streamer_id)
        if settled and settled[1] == state:
            return
        outcome = await self.detection.found_live(news)
        if outcome in {STOPPED, FILTERED}:
            self._settled[news.streamer_id] = outcome, state
        else:
            self._settled.pop(news.streamer_id, None)

    async def _seen_absent(self, row: EnabledStreamer, captured: bool) -> None:
        """Twice and for half a minute: a witness for the end, once. Also when EventSub has said
        offline before: it takes two."""
        key, now = str(row.id), monotonic()
        if row.live_since is None and not captured:
            self._absent.pop(key, None)
            return
        absence = self._absent.get(key)
        if absence is None:
            self._absent[key] = _Absence(now)
            return
        absence.times += 1
        if absence.told or absence.times < ABSENT_TIMES or now - absence.since < self.absent_for_s:
            return
        await self.detection.heard_offline(key, "poll", datetime.now(UTC))
        absence.told = True

    # ---- the player

    async def _ask_players(self, rows: Sequence[EnabledStreamer], running: _Running) -> None:
        """Those believed live first, then the others in turn."""
        captured = running.captured
        idle = [row for row in rows if row.id not in captured]
        believed = [row for row in idle if row.live_since is not None]
        others = [row for row in idle if row.live_since is None]
        start = self._next_look % len(others) if others else 0
        turn = (believed + others[start:] + others[:start])[:LOOKS_A_ROUND]
        self._next_look = start + max(len(turn) - len(believed), 0)
        await _all(LOOKS_AT_ONCE, [self._ask_player(row) for row in turn])

    async def _ask_player(self, row: EnabledStreamer) -> None:
        news = News(str(row.id), "poll")
        outcome = await self.detection.found_live(news)
        if outcome == NOT_LIVE and row.live_since is not None:
            async with self.db.begin() as session:
                await streamers.note_not_live(session, row.id)


async def _all(at_once: int, work: Sequence[Awaitable[None]]) -> None:
    """So many at a time; one that fails holds up nobody."""
    gate = asyncio.Semaphore(at_once)

    async def one(item: Awaitable[None]) -> None:
        async with gate:
            try:
                await item
            except StreamVaultError as error:
                log.warning("streamer not looked at", extra={"why": error.one_line})

    await asyncio.gather(*(one(item) for item in work))
