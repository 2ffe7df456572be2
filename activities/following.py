"""Who our streamers are on Twitch: ids of new ones, renames of the others."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from temporalio import activity

from streamvault.db import streamers
from streamvault.db.session import Database
from streamvault.db.streamers import DueProfile, Profile
from streamvault.errors import TwitchError

if TYPE_CHECKING:
    from activities.twitch_access import TwitchAccess
    from streamvault.twitch.words import User

log = logging.getLogger(__name__)

PROFILE_AGE = timedelta(days=1)
AT_ONCE = 500
# A row that had to give up its login is due at once, and may take that of another one.
ROUNDS = 3
NO_SUCH_LOGIN = "Twitch has no channel of this name"
NO_SUCH_ACCOUNT = "Twitch does not know this account any more; it was deleted or banned"


@dataclass
class Following:
    db: Database
    twitch: Callable[[], Awaitable[TwitchAccess | None]]
    """None without a Twitch application."""

    @activity.defn
    async def complete_profiles(self) -> None:
        """Look up who was never or not lately looked up; costs one query if there is nobody.

        While Twitch cannot be asked nothing changes, and the next call tries again."""
        access = await self.twitch()
        for _ in range(ROUNDS if access else 0):
            async with self.db.begin() as session:
                due = await streamers.due_profiles(session, PROFILE_AGE, limit=AT_ONCE)
            if access is None or not due:
                return
            try:
                users = await access.helix.users(
                    ids=[row.user_id for row in due if row.user_id],
                    logins=[row.login for row in due if not row.user_id],
                )
            except TwitchError as error:
                log.warning("profiles not looked up", extra={"why": error.one_line})
                return
            await self._note(due, users)

    async def _note(self, due: Iterable[DueProfile], users: Iterable[User]) -> None:
        profiles = [Profile(u.id, u.login, u.name or u.login, u.avatar_url) for u in users]
        by_id = {profile.user_id: profile for profile in profiles}
        by_login = {profile.login: profile for profile in profiles}
        same: list[UUID] = []
        for row in due:
            found = by_id.get(row.user_id) if row.user_id else by_login.get(row.login.lower())
            if found is not None and found == row.known:
                same.append(row.id)
            else:
                await self._note_one(row, found)
        # A thousand streamers are one statement on a day without news.
        async with self.db.begin() as session:
            await streamers.note_same_profiles(session, same)

    async def _note_one(self, row: DueProfile, profile: Profile | None) -> None:
        # One transaction each: the lock on names is held only for a moment.
        async with self.db.begin() as session:
            if profile is None:
                problem = NO_SUCH_ACCOUNT if row.user_id else NO_SUCH_LOGIN
                await streamers.note_no_profile(session, row.id, problem)
            elif await streamers.note_profile(session, row.id, profile):
                log.info("profile noted", extra={"login": profile.login, "before": row.login})
