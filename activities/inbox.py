"""Working off what EventSub said: each message becomes a word to detection.

One long activity. A message that fails waits longer each time and ends among the dead letters. What
failed before has only half of the places, so that it never delays what just came in.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from activities.detection import NOT_LIVE, Detection
from streamvault.contracts import Watched
from streamvault.db import dead_letters, inbox, streamers, subscriptions
from streamvault.db.listening import listen
from streamvault.db.models import InboxMessage
from streamvault.db.session import Database
from streamvault.errors import (
    Conflict,
    DependencyUnavailable,
    SourceUnavailable,
    StreamVaultError,
    TwitchUnavailable,
)
from streamvault.logs import scrub
from streamvault.source import News
from streamvault.twitch import eventsub
from streamvault.twitch.eventsub import (
    ChannelUpdate,
    Event,
    Revocation,
    StreamOffline,
    StreamOnline,
)

log = logging.getLogger(__name__)

PLATFORM = "twitch"

# A NOTIFY may be lost with its connection, and what was put off becomes due.
LOOK_EVERY_S = 2.0
# What a worker that died had taken is due again after this.
LEASE_S = 6.0
HOLD_EVERY_S = 2.0
AT_ONCE = 20
FAILED_AT_ONCE = 10
# Asking the source and starting a workflow take seconds; this is a hang.
MESSAGE_WITHIN_S = 30.0
# New code is to be taken up, and Temporal's history of the workflow stays short.
LASTS_S = 6 * 3600.0
# The worker drains for 20 s; what is not done by then is taken up by the next one.
FINISHED_WITHIN_S = 10.0

POISON_ATTEMPTS = 5
# By the back-off below, ten minutes: what these errors mean says nothing against the message.
PATIENT_ATTEMPTS = 25
LONGEST_BACK_OFF_S = 30.0
NOT_NOW = (DependencyUnavailable, TwitchUnavailable, SourceUnavailable, Conflict)
LONGEST_ERROR = 500

# Twitch's services agree late on what is live: the playlist comes after the message.
BELIEVED_S = 120.0
ASK_AGAIN_S = (3.0, 30.0)

KEPT_S = 24 * 3600.0
PRUNE_EVERY_S = 600.0


class Subscribes(Protocol):
    async def check_soon(self) -> None: ...


@dataclass(frozen=True)
class Inbox:
    db: Database
    detection: Detection
    subscriptions: Subscribes | None = None

    @activity.defn
    async def work_off(self) -> Watched:
        shift = _Shift(self)
        shutdown = asyncio.create_task(activity.wait_for_worker_shutdown())
        try:
            return await shift.work(shutdown)
        finally:
            shutdown.cancel()

    async def tell(self, row: InboxMessage) -> float | None:
        """Pass one message on; after how many seconds it is to be told again, None for never."""
        event = eventsub.parse_event(row.type, row.payload)
        if isinstance(event, Revocation):
            await self._revoked(event)
            return None
        streamer_id = await self._streamer_of(event)
        if streamer_id is None:
            return None
        match event:
            case StreamOnline(kind=eventsub.LIVE):
                return await self._online(row, streamer_id, event)
            case StreamOffline():
                await self.detection.heard_offline(streamer_id, row.source, row.sent_at)
            case ChannelUpdate():
                await self.detection.heard_channel(
                    streamer_id,
                    title=event.title,
                    category=event.category,
                    category_id=event.category_id,
                    at=row.sent_at,
                    told_by=row.source,
                )
        return None

    async def _online(
        self, row: InboxMessage, streamer_id: str, event: StreamOnline
    ) -> float | None:
        news = News(streamer_id, row.source, stream_id=event.stream_id, started_at=event.started_at)
        said = await self.detection.found_live(news)
        log.info("told of a stream", extra={"streamer_id": streamer_id, "result": said})
        age_s = (datetime.now(UTC) - row.sent_at).total_seconds()
        if said != NOT_LIVE or age_s >= BELIEVED_S:
            return None
        # As long again as it has waited already.
        shortest, longest = ASK_AGAIN_S
        return min(max(age_s, shortest), longest)

    async def _revoked(self, event: Revocation) -> None:
        log.warning(
            "Twitch revoked a subscription", extra={"type": event.type, "why": event.status}
        )
        async with self.db.begin() as session:
            await subscriptions.mark_status(session, event.subscription_id, event.status)
        if self.subscriptions is not None:
            await self.subscriptions.check_soon()

    async def _streamer_of(self, event: Event) -> str | None:
        """None when we do not follow whom it is about (any more)."""
        if not isinstance(event, StreamOnline | StreamOffline | ChannelUpdate):
            return None
        async with self.db.begin() as session:
            found = await streamers.find_by_user_id(session, PLATFORM, event.user_id)
            return str(found.id) if found else None


class _Shift:
    """One run of the activity."""

    def __init__(self, inbox_: Inbox) -> None:
        self._inbox = inbox_
        self._db = inbox_.db
        self._heard = asyncio.Event()
        self._taken: dict[int, asyncio.Task[None]] = {}
        self._failed: set[int] = set()
        """Of those taken, the ones that had failed before."""
        self._hold_at = 0.0
        self._prune_at = 0.0
        self._is_away = False

    async def work(self, shutdown: asyncio.Task[None]) -> Watched:
        ear = asyncio.create_task(listen(self._db, inbox.CHANNEL, self._heard))
        ends_at = time.monotonic() + LASTS_S
        rounds = 0
        try:
            while not shutdown.done() and time.monotonic() < ends_at:
                activity.heartbeat()
                self._heard.clear()
                await self._look()
                rounds += 1
                await self._wait(shutdown)
            await self._finish()
        finally:
            for task in (ear, *self._taken.values()):
                task.cancel()
        return Watched(rounds)

    async def _look(self) -> None:
        """Take what is due; while the database is away, nothing is."""
        try:
            await self._take()
            await self._keep_house()
        except (StreamVaultError, SQLAlchemyError, OSError) as error:
            if not self._is_away:
                log.warning("the inbox cannot be read", extra={"why": str(error)})
            self._is_away = True
        else:
            self._is_away = False

    async def _take(self) -> None:
        free = AT_ONCE - len(self._taken)
        if free <= 0:
            return
        async with self._db.begin() as session:
            rows = await inbox.claim(session, limit=free, again=False, lease_s=LEASE_S)
            for_failed = min(free - len(rows), FAILED_AT_ONCE - len(self._failed))
            if for_failed > 0:
                failed = await inbox.claim(session, limit=for_failed, again=True, lease_s=LEASE_S)
                self._failed.update(row.id for row in failed)
                rows += failed
        for row in rows:
            if row.id not in self._taken:
                self._taken[row.id] = asyncio.create_task(self._work_on(row))

    def _let_go(self) -> None:
        for row_id in [row_id for row_id, task in self._taken.items() if task.done()]:
            del self._taken[row_id]
            self._failed.discard(row_id)

    async def _keep_house(self) -> None:
        now = time.monotonic()
        if self._taken and now >= self._hold_at:
            self._hold_at = now + HOLD_EVERY_S
            async with self._db.begin() as session:
                await inbox.hold(session, list(self._taken), LEASE_S)
        if now >= self._prune_at:
            async with self._db.begin() as session:
                gone = await inbox.prune(session, older_than_s=KEPT_S)
            self._prune_at = now + (PRUNE_EVERY_S if not gone else LOOK_EVERY_S)

    async def _wait(self, shutdown: asyncio.Task[None]) -> None:
        """Until there may be something to take."""
        heard = asyncio.create_task(self._heard.wait())
        # While every place is taken, being told of more changes nothing.
        wanted: set[asyncio.Task[Any]] = {shutdown, *self._taken.values()}
        if len(self._taken) < AT_ONCE:
            wanted.add(heard)
        await asyncio.wait(wanted, timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
        heard.cancel()
        self._let_go()

    async def _finish(self) -> None:
        if self._taken:
            await asyncio.wait(self._taken.values(), timeout=FINISHED_WITHIN_S)

    # ---- one message

    async def _work_on(self, row: InboxMessage) -> None:
        """An error of any kind is this message's own: it must not stop the others."""
        telling = asyncio.create_task(self._inbox.tell(row))
        try:
            await asyncio.wait({telling}, timeout=MESSAGE_WITHIN_S)
        finally:
            telling.cancel()
        try:
            async with self._db.begin() as session:
                if not telling.done() or telling.cancelled():
                    late = DependencyUnavailable(f"not done within {MESSAGE_WITHIN_S:.0f} s")
                    await _note_failure(session, row, late)
                elif error := telling.exception():
                    await _note_failure(session, row, error)
                elif (wait_s := telling.result()) is not None:
                    await inbox.put_off(session, row.id, wait_s, "not live yet", failed=False)
                else:
                    await inbox.finish(session, row.id)
        except (StreamVaultError, SQLAlchemyError, OSError) as error:
            # It is due again when the lease is over.
            log.warning("the inbox cannot be written", extra={"why": str(error)})


async def _note_failure(session: AsyncSession, row: InboxMessage, error: BaseException) -> None:
    attempts = row.attempts + 1
    text = _one_line(error)
    if attempts < (PATIENT_ATTEMPTS if isinstance(error, NOT_NOW) else POISON_ATTEMPTS):
        wait_s = min(2.0**row.attempts, LONGEST_BACK_OFF_S)
        await inbox.put_off(session, row.id, wait_s, text, failed=True)
        return
    log.error("message given up", extra={"message_id": row.message_id, "why": text})
    await inbox.bury(session, row.id, text)
    await dead_letters.add_letter(
        session,
        dead_letters.INBOX,
        row.message_id,
        title=_title(row),
        error=text,
        attempts=attempts,
    )


def _one_line(error: BaseException) -> str:
    if isinstance(error, StreamVaultError):
        return scrub(error.one_line)[:LONGEST_ERROR]
    # Nobody expected this one, so the log has to tell where it came from.
    log.error("a message met an error of our own", exc_info=error)
    return f"an error that StreamVault did not expect: {type(error).__name__}"


def _title(row: InboxMessage) -> str:
    about = row.payload.get("event") or row.payload.get("subscription", {}).get("condition", {})
    who = about.get("broadcaster_user_login") or about.get("broadcaster_user_id")
    return f"{row.type} of {who}" if who else row.type
