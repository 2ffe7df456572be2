"""What the rows of `subscriptions` say after Twitch was asked: status and back-off."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from streamvault.db.subscriptions import LONG_AGO, Key, SubscriptionNote
from streamvault.twitch.backoff import full_jitter_s
from streamvault.twitch.ladder import Rung
from streamvault.twitch.subscriptions import ENABLED, Plan, Want
from streamvault.twitch.words import EventSubscription

LONGEST_BACK_OFF_S = 900.0
# A subscription that lasted so long owes nothing to the failures before it.
STEADY = timedelta(minutes=10)
LONGEST_ERROR = 300
REFUSED = "refused"
"""Our own word in the place of Twitch's status: there never was a subscription."""


@dataclass(frozen=True, slots=True)
class Notebook:
    """Makes rows; `draw` is the jitter."""

    rung: Rung
    now: datetime
    draw: Callable[[], float] = random.random

    def standing(
        self, want: Want, item: EventSubscription, before: SubscriptionNote | None
    ) -> SubscriptionNote:
        made = item.created_at or self.now
        steady = item.status == ENABLED and self.now - made >= STEADY
        return SubscriptionNote(
            user_id=want.user_id,
            type=want.type,
            subscription_id=item.id,
            transport=str(self.rung),
            status=item.status,
            attempts=0 if steady or before is None else before.attempts,
            next_at=before.next_at if before else LONG_AGO,
        )

    def failed(
        self, want: Want, before: SubscriptionNote | None, status: str, error: str
    ) -> SubscriptionNote:
        """One more failure, after which this channel rests for a while."""
        attempts = (before.attempts if before else 0) + 1
        pause_s = full_jitter_s(attempts, LONGEST_BACK_OFF_S, draw=self.draw)
        return SubscriptionNote(
            user_id=want.user_id,
            type=want.type,
            transport=str(self.rung),
            status=status,
            attempts=attempts,
            next_at=self.now + timedelta(seconds=pause_s),
            error=error[:LONGEST_ERROR],
        )

    def after_listing(
        self, plan: Plan, notes: Mapping[Key, SubscriptionNote]
    ) -> Iterator[SubscriptionNote]:
        """The rows that change by what Twitch lists."""
        for want, item in plan.keep.items():
            before = notes.get(want.key)
            if (note := self.standing(want, item, before)) != before:
                yield note
        for want in plan.create:
            before = notes.get(want.key)
            if broken := plan.broken.get(want):
                yield self.failed(want, before, broken.status, f"Twitch says {broken.status}")
            elif before and before.transport != self.rung:
                # Another transport owes nothing to the failures of the one before.
                yield SubscriptionNote(want.user_id, want.type, transport=str(self.rung))
            elif before and before.subscription_id and self.rung != Rung.WEBSOCKET:
                yield self.failed(want, before, "", "Twitch lists it no more")


def resting(notes: Mapping[Key, SubscriptionNote], now: datetime) -> dict[str, datetime]:
    """The channels that wait for their next try, and until when."""
    until: dict[str, datetime] = {}
    for note in notes.values():
        if note.error and note.next_at > now:
            until[note.user_id] = max(note.next_at, until.get(note.user_id, now))
    return until
