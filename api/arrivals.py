"""From what a person gives to whom we would follow."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from api.addresses import HLS, check_source_address
from api.directory import Directory
from api.pasted import Entry
from streamvault.db.identities import channel_url
from streamvault.db.models import Streamer
from streamvault.db.streamers import TWITCH, NewStreamer
from streamvault.errors import InvalidInput, StreamVaultError
from streamvault.settings import Settings

if TYPE_CHECKING:
    from streamvault.twitch.words import User

ELSEWHERE = "url"


@dataclass(frozen=True, slots=True)
class Arrival:
    """An entry of a list and whom it means. `problem` says why nobody, or what was not checked."""

    input: str
    new: NewStreamer | None = None
    is_unknown: bool = False
    """It could be somebody, but is nobody."""
    problem: str = ""


async def describe(
    entry: Entry, directory: Directory, settings: Settings, quality: str = "best"
) -> NewStreamer:
    """Raises InvalidInput for what cannot be followed, SourceUnavailable for a host that is not
    found."""
    if entry.problem:
        raise InvalidInput(f"{entry.input!r} {entry.problem}")
    if entry.url:
        return elsewhere(await check_source_address(entry.url, settings), quality)
    user = directory.by_login.get(entry.login)
    if user is not None:
        return of_account(user, quality)
    if not directory.away:
        raise InvalidInput(f"Twitch has no channel {entry.login}", hint="is it spelt right?")
    return NewStreamer(TWITCH, entry.login, entry.login, channel_url(entry.login), quality)


async def describe_all(
    entries: Iterable[Entry], directory: Directory, settings: Settings
) -> list[Arrival]:
    """In order; what cannot be followed is told, not raised."""
    return await asyncio.gather(*(_arrival(entry, directory, settings) for entry in entries))


def describe_accounts(user_ids: Iterable[str], directory: Directory) -> list[Arrival]:
    """In order; without Twitch's answer an id alone cannot be followed."""
    return [_arrival_of_account(user_id, directory) for user_id in user_ids]


def of_account(user: User, quality: str = "best") -> NewStreamer:
    return NewStreamer(
        platform=TWITCH,
        login=user.login,
        name=user.name or user.login,
        url=channel_url(user.login),
        quality=quality,
        user_id=user.id,
        avatar_url=user.avatar_url,
    )


def elsewhere(url: str, quality: str = "best") -> NewStreamer:
    """A source that streamlink reads, or a playlist; the address has been checked."""
    host = urlsplit(url.removeprefix(HLS)).hostname or ""
    # Paths tell upper from lower case, so the login of an address is a hash of it.
    digest = hashlib.sha256(url.encode()).hexdigest()[:10]
    return NewStreamer(ELSEWHERE, f"{host}-{digest}", host, url, quality)


def row_of(new: NewStreamer, rows: Sequence[Streamer]) -> Streamer | None:
    """The one of these rows that adding `new` would find."""
    here = [row for row in rows if row.platform == new.platform]
    by_id = [row for row in here if new.user_id and row.platform_user_id == new.user_id]
    # A login alone may still be that of the account which had it before.
    by_login = [
        row
        for row in here
        if row.login.lower() == new.login
        and (new.user_id is None or row.platform_user_id in (None, new.user_id))
    ]
    return next(iter(by_id + by_login), None)


async def _arrival(entry: Entry, directory: Directory, settings: Settings) -> Arrival:
    try:
        new = await describe(entry, directory, settings)
    except StreamVaultError as error:
        problem = entry.problem or error.one_line
        return Arrival(entry.input, is_unknown=bool(entry.login), problem=problem)
    unchecked = directory.away if entry.login else ""
    return Arrival(entry.input, new, problem=f"not checked: {unchecked}" if unchecked else "")


def _arrival_of_account(user_id: str, directory: Directory) -> Arrival:
    if user := directory.by_id.get(user_id):
        return Arrival(user_id, of_account(user))
    problem = directory.away or "Twitch has no account with this id"
    return Arrival(user_id, is_unknown=not directory.away, problem=problem)
