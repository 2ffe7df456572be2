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

from temporalio import activity

from activities.detection import CAPTURING, FILTERED, STOPPED, Detection
from activities.progress import beat_for_ever
from activities.twitch_facts import TwitchFacts
from streamvault.contracts import Status, Watched
from streamvault.db import facts, recordings, streamers
from streamvault.db.listening import listen
from streamvault.db.session import Database
from streamvault.db.streamers import EnabledStreamer
from streamvault.errors import DependencyUnavailable, StreamVaultError, TwitchError
from streamvault.source import News

if TYPE_CHECKING:
    from activities.twitch_access import TwitchAccess
    from streamvault.twitch.words import LiveStream

log = logging.getLogger(__name__)

# Long enough to cost nothing, short enough that a new release's code takes over.
WATCH_FOR = timedelta(hours=6)
BEAT_S = 5.0
SHARE_EVERY_S = 5.0
JITTER = 0.1
# Get Streams has answered empty for a live stream, so one absence says nothing (twitchdev #558).
ABSENT_FOR_S = 30.0
ABSENT_TIMES = 2
# Without Helix the player is asked, one channel at a time: each look is a request and 10 ms of CPU.
LOOKS_A_ROUND = 120
LOOKS_AT_ONCE = 4
STARTS_AT_ONCE = 20


@dataclass
class _Absence:
    """When somebody was last seen live and has been missing since."""

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
            except DependencyUnavailable:
                # The poll says so itself.
                pass
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
        self.detection.soon.clear()
        return stopping in done

    async def _round(self) -> None:
        try:
            await self.complete_profiles()
            async with self.db.begin() as session:
                rows = await streamers.list_enabled(session)
                running = await recordings.open_sources(session)
            await self._look_at_all(rows, running)
        except (DependencyUnavailable, TwitchError) as error:
            # The next round is the next try.
            log.warning("poll not finished", extra={"why": error.one_line})

    async def _look_at_all(self, rows: Sequence[EnabledStreamer], running: dict[str, str]) -> None:
        """Helix for Twitch's; the player for the others, and for all while Helix is away."""
        access = await self.twitch()
        on_twitch = [row for row in rows if row.platform == "twitch" and row.user_id]
        rest = [row for row in rows if row not in on_twitch] if access else list(rows)
        why = "no Twitch application is set up" if access is None else ""
        live = 0
        if access is not None and on_twitch:
            try:
                live = await self._ask_helix(access, on_twitch, running)
            except TwitchError as error:
                why, rest = error.one_line, list(rows)
        await self._ask_players(rest, running)
        async with self.db.begin() as session:
            value = {"streamers": len(rows), "live": live, "helix": not why, "why": why}
            await facts.put_fact(session, facts.POLL, value)

    # ---- Helix

    async def _ask_helix(
        self, access: TwitchAccess, rows: Sequence[EnabledStreamer], running: dict[str, str]
    ) -> int:
        found = await access.helix.streams([row.user_id for row in rows if row.user_id])
        live = {stream.user_id: stream for stream in found if stream.kind == "live"}
        here = [(row, live[row.user_id]) for row in rows if row.user_id in live]
        await _all(STARTS_AT_ONCE, [self._seen_live(row, s, running) for row, s in here])
        await _all(
            STARTS_AT_ONCE,
            [self._seen_absent(row) for row in rows if row.user_id not in live],
        )
        return len(live)

    async def _seen_live(
        self, row: EnabledStreamer, stream: LiveStream, running: dict[str, str]
    ) -> None:
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
        status = running.get(f"twitch:{stream.id}")
        if status in CAPTURING and status != Status.DETECTING:
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

    async def _seen_absent(self, row: EnabledStreamer) -> None:
        """Twice and for half a minute: a witness for the end, once."""
        key, now = str(row.id), monotonic()
        absence = self._absent.get(key)
        if absence is None:
            if row.live_since is not None:
                self._absent[key] = _Absence(now)
            return
        absence.times += 1
        if absence.told or absence.times < ABSENT_TIMES or now - absence.since < ABSENT_FOR_S:
            return
        await self.detection.heard_offline(key, "poll", datetime.now(UTC))
        absence.told = True
        if row.live_since is None:
            del self._absent[key]

    # ---- the player

    async def _ask_players(self, rows: Sequence[EnabledStreamer], running: dict[str, str]) -> None:
        """Those believed live first, then the others in turn."""
        idle = [row for row in rows if not _is_captured(row, running)]
        believed = [row for row in idle if row.live_since is not None]
        others = [row for row in idle if row.live_since is None]
        start = self._next_look % len(others) if others else 0
        turn = (believed + others[start:] + others[:start])[:LOOKS_A_ROUND]
        self._next_look = start + max(len(turn) - len(believed), 0)
        await _all(LOOKS_AT_ONCE, [self._ask_player(row) for row in turn])

    async def _ask_player(self, row: EnabledStreamer) -> None:
        news = News(str(row.id), "poll")
        outcome = await self.detection.found_live(news)
        if outcome == "not_live" and row.live_since is not None:
            async with self.db.begin() as session:
                await streamers.note_not_live(session, row.id)


def _is_captured(row: EnabledStreamer, running: dict[str, str]) -> bool:
    keys = (f"{row.platform}:{row.live_stream_id}", f"url:{row.url}")
    return any(running.get(key) in CAPTURING for key in keys)


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
