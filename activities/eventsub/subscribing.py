"""Bringing EventSub's subscriptions to what is wanted, one round at a time.

A round lists, plans and does as much as its time allows; what it leaves is for the next one. Every
channel has its own back-off, so that one that Twitch refuses delays no other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from activities.eventsub.notes import Notebook
from activities.eventsub.round import Account, Round
from streamvault.db import subscriptions
from streamvault.db.session import Database
from streamvault.db.subscriptions import Key, SubscriptionNote
from streamvault.twitch.backoff import Pace
from streamvault.twitch.ladder import Rung
from streamvault.twitch.subscriptions import Ours, Plan, Target, Want, make_plan, wants_of
from streamvault.twitch.words import SubscriptionList

if TYPE_CHECKING:
    from streamvault.twitch.helix import Helix

CREATES_PER_S = 9.5  # ten are allowed, and calls arrive less evenly than they leave


@dataclass
class Subscribing:
    """`secret` is what webhooks are signed with."""

    db: Database
    helix: Helix
    secret: Callable[[], Awaitable[str]]
    pace: Pace = field(default_factory=lambda: Pace(CREATES_PER_S))

    async def run(
        self,
        target: Target,
        ours: Ours,
        *,
        has_app: bool,
        stop: Callable[[], bool] = lambda: False,
    ) -> Account:
        """One round. `stop` ends it early, when something else is wanted by now.

        Raises TwitchError when nothing can be listed, DependencyUnavailable."""
        async with self.db.begin() as session:
            hear = await subscriptions.channels_to_hear(session)
            rows = _Rows(self.db, await subscriptions.notes_by_key(session))
        wants = [] if target.rung == Rung.POLL else wants_of(hear)

        async def relist() -> SubscriptionList:
            return await self._list(target, has_app)

        listed = await relist()
        now = datetime.now(UTC)
        plan = make_plan(wants, listed, target, ours, now)
        await rows.take_over(Notebook(target.rung, now), plan, wants)
        return await Round(
            helix=self.helix,
            target=target,
            secret=await self.secret() if target.rung == Rung.WEBHOOK else "",
            wants=wants,
            plan=plan,
            listed=listed,
            rows=rows,
            relist=relist,
            turn=self.pace.turn,
            stop=stop,
        ).run()

    async def _list(self, target: Target, has_app: bool) -> SubscriptionList:
        """Everything that could be ours; the costs are those of the target's kind of token."""
        by_app = await self.helix.subscriptions() if has_app else SubscriptionList()
        if target.rung != Rung.WEBSOCKET:
            return by_app
        by_user = await self.helix.subscriptions(user=True)
        return replace(by_user, items=[*by_user.items, *by_app.items])


@dataclass(frozen=True, slots=True)
class _Rows:
    db: Database
    notes: dict[Key, SubscriptionNote]

    async def take_over(self, notebook: Notebook, plan: Plan, wants: Sequence[Want]) -> None:
        """What Twitch lists, in one go."""
        gone = self.notes.keys() - {want.key for want in wants}
        changed = list(notebook.after_listing(plan, self.notes))
        if gone or changed:
            async with self.db.begin() as session:
                await subscriptions.forget(session, gone)
                await subscriptions.save_notes(session, changed)
        for key in gone:
            del self.notes[key]
        self.notes.update({note.key: note for note in changed})

    async def save(self, note: SubscriptionNote) -> None:
        self.notes[note.key] = note
        async with self.db.begin() as session:
            await subscriptions.save_notes(session, [note])
