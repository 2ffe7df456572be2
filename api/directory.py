"""Twitch's answer to: who is that? Asked while a person waits, so its absence is an answer, too."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from api.deps import Shared
from streamvault.errors import TwitchError

if TYPE_CHECKING:
    from streamvault.twitch.words import User

PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class Directory:
    """The accounts among those that were asked for. `away` says why Twitch could not be asked;
    nobody is unknown then."""

    by_id: Mapping[str, User] = field(default_factory=dict)
    by_login: Mapping[str, User] = field(default_factory=dict)
    away: str = ""


async def look_up(
    deps: Shared, *, logins: Collection[str] = (), user_ids: Collection[str] = ()
) -> Directory:
    """Logins in lower case."""
    if not logins and not user_ids:
        return Directory()
    try:
        async with asyncio.timeout(PATIENCE_S):
            access = await deps.twitch()
            return _directory(await access.helix.users(ids=user_ids, logins=logins))
    except TwitchError as error:
        return Directory(away=error.one_line)
    except TimeoutError:
        return Directory(away="Twitch does not answer in time")


def _directory(users: Iterable[User]) -> Directory:
    found = list(users)
    return Directory({user.id: user for user in found}, {user.login: user for user in found})
