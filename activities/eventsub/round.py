"""One round of creating and deleting subscriptions, and what it says of the transport."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from activities.eventsub.notes import REFUSED, Notebook, resting
from streamvault.db.subscriptions import Key, SubscriptionNote
from streamvault.errors import TwitchRefused, TwitchUnavailable
from streamvault.twitch.ladder import Refusal, Rung
from streamvault.twitch.refusals import Meaning, meaning_of
from streamvault.twitch.subscriptions import (
    ENABLED,
    ONLINE,
    PENDING,
    UNVERIFIED,
    Plan,
    Target,
    Want,
    want_of,
)
from streamvault.twitch.words import EventSubscription, SubscriptionList

if TYPE_CHECKING:
    from streamvault.twitch.helix import Helix

log = logging.getLogger(__name__)

ROUND_S = 60.0
DELETES_AT_ONCE = 5
# Twitch asks a new webhook at once; how soon to look what came of it.
LOOK_AGAIN_S = 3.0
RETRY_S = 5.0
# What a socket cost goes on counting for a moment after the socket is gone.
ROOM_AGAIN_S = 60.0
# So many refused, or not verified, and none that stands: it is not about one channel.
PROOFS = 3


@dataclass(frozen=True, slots=True)
class Account:
    """How far a round came."""

    desired: int = 0
    """What this transport should hold: without what Twitch has no room for."""
    channels: int = 0
    carried: int = 0
    """How many of the channels are told to be live."""
    by_status: dict[str, int] = field(default_factory=dict)
    cost: int = 0
    max_cost: int = 0
    refusal: Refusal | None = None
    """Why this rung does not hold, or not all."""
    is_stale: bool = False
    """The session or conduit is gone at Twitch."""
    is_settled: bool = False
    """All that is wanted stands, and nothing is left at another place of ours."""
    problem: str = ""
    next_s: float | None = None
    """When another round makes sense; None: nothing is left to do."""


class Rows(Protocol):
    """The table `subscriptions` while a round runs."""

    @property
    def notes(self) -> dict[Key, SubscriptionNote]: ...

    async def save(self, note: SubscriptionNote) -> None: ...


@dataclass(slots=True)
class Round:
    """`relist` is another look at what Twitch lists; `turn` waits for the next call's turn."""

    helix: Helix
    target: Target
    secret: str
    wants: Sequence[Want]
    plan: Plan
    listed: SubscriptionList
    rows: Rows
    relist: Callable[[], Awaitable[SubscriptionList]]
    turn: Callable[[], Awaitable[None]]
    stop: Callable[[], bool]

    _statuses: dict[Want, str] = field(init=False)
    _replaced: dict[Want, EventSubscription] = field(init=False)
    _cost: tuple[int, int] = field(init=False)
    _ends_at: float = field(init=False)
    _conflicts: list[Want] = field(default_factory=list)
    _next_s: list[float] = field(default_factory=list)
    _refusal: str = ""
    _problem: str = ""
    _is_full: bool = False
    _is_stale: bool = False
    _has_freed: bool = False
    """Something went, or cost less than was thought, so that there may be room for more."""

    def __post_init__(self) -> None:
        self._statuses = {want: item.status for want, item in self.plan.keep.items()}
        named = ((want_of(item), item) for item in self.plan.replaced)
        self._replaced = {want: item for want, item in named if want}
        self._cost = (self.listed.total_cost, self.listed.max_total_cost)
        self._ends_at = monotonic() + ROUND_S

    async def run(self) -> Account:
        try:
            await self._remove(self.plan.remove)
            await self._create_all()
            await self._adopt()
            await self._let_go()
        except TwitchUnavailable as error:
            self._fail_all(error.one_line, max(error.retry_after_s, RETRY_S))
        except TwitchRefused as error:
            self._fail_all(error.one_line, RETRY_S)
        self._judge()
        return self._account()

    # ---- creating

    async def _create_all(self) -> None:
        for want in self._ready():
            if self.stop() or monotonic() >= self._ends_at:
                self._next_s.append(0.0)
                return
            await self._create(want)
            if self._is_full or self._is_stale or self._problem or self._refusal:
                return

    def _ready(self) -> list[Want]:
        """What can be created now. As long as no webhook is proved to work, only a few."""
        now = datetime.now(UTC)
        until = resting(self.rows.notes, now)
        waiting = [want for want in self.plan.create if want.user_id in until]
        if waiting:
            first = min(until[want.user_id] for want in waiting)
            self._next_s.append((first - now).total_seconds())
        ready = [want for want in self.plan.create if want.user_id not in until]
        if self.target.rung != Rung.WEBHOOK or ENABLED in self._statuses.values():
            return ready
        return ready[: max(PROOFS - len(self._statuses), 0)]

    async def _create(self, want: Want) -> None:
        await self.turn()
        try:
            made = await self.helix.create_subscription(
                want.type,
                want.version,
                want.condition,
                self.target.transport(self.secret),
                user=self.target.rung == Rung.WEBSOCKET,
            )
        except TwitchRefused as error:
            await self._refused(want, error)
            return
        self._cost = (made.total_cost, made.max_total_cost)
        for item in made.items:
            self._has_freed |= item.cost == 0
            await self._stand(want, item)

    async def _refused(self, want: Want, error: TwitchRefused) -> None:
        meaning = meaning_of(error)
        if meaning in (Meaning.EXISTS, Meaning.TOO_MANY_ALIKE) and want in self._replaced:
            # Its predecessor at another place of ours stands in the way.
            await self._remove([self._replaced.pop(want)])
            await self._create(want)
            return
        match meaning:
            case Meaning.EXISTS:
                self._conflicts.append(want)
            case Meaning.NO_ROOM:
                self._is_full = True
            case Meaning.STALE:
                self._is_stale = True
            case Meaning.NO_TOKEN:
                self._fail_all(error.one_line, RETRY_S)
            case Meaning.NOT_HERE:
                self._refusal = error.one_line
            case Meaning.NOT_THIS | Meaning.TOO_MANY_ALIKE:
                await self._fail(want, error.one_line)

    async def _adopt(self) -> None:
        """What exists already is looked up: an answer of Twitch's was lost on its way."""
        if not self._conflicts:
            return
        listed = await self.relist()
        found = {want_of(item): item for item in listed.items if self.target.is_of(item)}
        for want in self._conflicts:
            item = found.get(want)
            if item and item.status in (ENABLED, PENDING):
                await self._stand(want, item)
            else:
                await self._fail(want, "Twitch says that it exists, and does not list it")

    async def _stand(self, want: Want, item: EventSubscription) -> None:
        self._statuses[want] = item.status
        before = self.rows.notes.get(want.key)
        await self.rows.save(self._notebook().standing(want, item, before))

    async def _fail(self, want: Want, why: str) -> None:
        note = self._notebook().failed(want, self.rows.notes.get(want.key), REFUSED, why)
        log.warning("subscription refused", extra={"type": want.type, "why": why})
        await self.rows.save(note)
        self._next_s.append((note.next_at - datetime.now(UTC)).total_seconds())
        # Do not ask for all the others when none was ever taken.
        if not self._statuses and self._failures() >= PROOFS:
            self._refusal = why

    def _fail_all(self, why: str, retry_s: float) -> None:
        self._problem = why
        self._next_s.append(retry_s)

    def _notebook(self) -> Notebook:
        return Notebook(self.target.rung, datetime.now(UTC))

    # ---- removing

    async def _let_go(self) -> None:
        """What still delivers to another place of ours goes once it is not needed or in the way."""
        if not self._replaced:
            return
        if self._stands_whole() or self.plan.no_room or self._is_full:
            await self._remove(list(self._replaced.values()))
            self._replaced.clear()
        else:
            self._next_s.append(LOOK_AGAIN_S)

    async def _remove(self, items: Iterable[EventSubscription]) -> None:
        slots = asyncio.Semaphore(DELETES_AT_ONCE)

        async def remove(item: EventSubscription) -> None:
            async with slots:
                await self.helix.delete_subscription(item.id, user=bool(item.session_id))

        results = await asyncio.gather(*(remove(item) for item in items), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
            self._has_freed = True

    # ---- judging

    def _stands_whole(self) -> bool:
        wanted = [*self.plan.keep, *self.plan.create]
        return all(self._statuses.get(want) == ENABLED for want in wanted)

    def _failures(self) -> int:
        """Of what never came to stand; what stood and was revoked says nothing of the transport."""
        return sum(note.attempts for note in self._never_stood())

    def _never_stood(self) -> list[SubscriptionNote]:
        notes = (self.rows.notes.get(want.key) for want in self.wants)
        return [note for note in notes if note and note.status in (REFUSED, UNVERIFIED, PENDING)]

    def _judge(self) -> None:
        """Whether all failures together say that it is not about single channels."""
        if self._refusal or self._statuses or self._failures() < PROOFS:
            return
        failed = self._never_stood()
        refused = [note.error for note in failed if note.status == REFUSED]
        self._refusal = refused[0] if refused else f"Twitch cannot reach {self.target.place}"

    def _account(self) -> Account:
        pending = PENDING in self._statuses.values()
        if pending:
            self._next_s.append(LOOK_AGAIN_S)
        lacks_room = self._is_full or bool(self.plan.no_room)
        if lacks_room and self._has_freed:
            self._next_s.append(0.0)
        online = [want for want in self.wants if want.type == ONLINE]
        carried = sum(want in self._statuses for want in online)
        if lacks_room and self.target.rung == Rung.WEBSOCKET:
            self._next_s.append(ROOM_AGAIN_S if carried else RETRY_S)
        planned = len(self.plan.keep) + len(self.plan.create)
        return Account(
            desired=len(self._statuses) if self._is_full else planned,
            channels=len(online),
            carried=carried,
            by_status=self._by_status(),
            cost=self._cost[0],
            max_cost=self._cost[1],
            refusal=self._refusal_of(carried, online),
            is_stale=self._is_stale,
            is_settled=self._stands_whole() and not self._replaced,
            problem=self._problem,
            next_s=max(min(self._next_s), 0.0) if self._next_s else None,
        )

    def _by_status(self) -> dict[str, int]:
        statuses = {want: item.status for want, item in self.plan.broken.items()} | self._statuses
        counts: dict[str, int] = {}
        for status in statuses.values():
            counts[status] = counts.get(status, 0) + 1
        return counts

    def _refusal_of(self, carried: int, online: Sequence[Want]) -> Refusal | None:
        now = datetime.now(UTC)
        if self._refusal:
            return Refusal(self._refusal, now)
        lacks_room = self._is_full or any(want in self.plan.no_room for want in online)
        if not lacks_room or carried >= len(online) or self._has_freed:
            return None
        cost, most = self._cost
        reason = f"Twitch has room for {carried} of {len(online)} channels (cost {cost} of {most})"
        # On a socket the room may only be taken for a moment by what a lost one held, and no rung
        # but the poll is below it.
        least = 1 if self.target.rung == Rung.WEBSOCKET else 0
        return Refusal(reason, now, carries=max(carried, least))
