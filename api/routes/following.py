"""Following many at once: a pasted list, and what the connected account follows on Twitch."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query
from sqlalchemy.ext.asyncio import AsyncSession

from api.arrivals import ELSEWHERE, Arrival, describe_accounts, describe_all, row_of
from api.deps import Cursor, Deps
from api.directory import look_up
from api.pasted import Entry, read_entry, read_list
from api.schemas import Listing
from api.schemas_streamers import (
    MAX_ENTRIES,
    Follow,
    ImportedEntry,
    ImportedList,
    ImportStreamers,
    Pasted,
    PastedEntry,
    PastedList,
    avatar_of,
)
from streamvault.db import credentials, streamers
from streamvault.db.models import Streamer
from streamvault.db.streamers import TWITCH, NewStreamer
from streamvault.errors import InvalidInput, TwitchNotConfigured

if TYPE_CHECKING:
    from streamvault.twitch.words import Followed

router = APIRouter(tags=["streamers"])

Position = tuple[float, str]


@router.post("/api/streamers/resolve")
async def resolve(body: Pasted, deps: Deps) -> PastedList:
    """What each entry of a pasted list is: logins, @names, addresses. Changes nothing."""
    entries = read_list(body.text)
    if len(entries) > MAX_ENTRIES:
        raise InvalidInput(
            f"the list has {len(entries)} entries, and at most {MAX_ENTRIES} are taken at once"
        )
    directory = await look_up(deps, logins=_logins(entries))
    arrivals = await describe_all(entries, directory, deps.settings)
    async with deps.db.begin() as session:
        rows = await _rows_of(session, arrivals)
    return PastedList(items=list(_preview(arrivals, rows)))


@router.post("/api/streamers/import")
async def import_many(body: ImportStreamers, deps: Deps) -> ImportedList:
    """Follow all of them; each is answered. Sent again, nothing is added twice."""
    entries = [read_entry(entry) for entry in body.entries]
    directory = await look_up(deps, logins=_logins(entries), user_ids=set(body.user_ids))
    arrivals = await describe_all(entries, directory, deps.settings)
    arrivals += describe_accounts(body.user_ids, directory)
    async with deps.db.begin() as session:
        return ImportedList(items=[await _add(session, arrival) for arrival in arrivals])


@router.get("/api/twitch/follows")
async def follows(
    deps: Deps, limit: Annotated[int, Query(ge=1, le=1000)] = 500, cursor: Cursor = None
) -> Listing[Follow]:
    """Whom the connected account follows on Twitch, the latest follow first."""
    after = _decode(cursor) if cursor else (float("inf"), "")
    access = await deps.twitch()
    async with deps.db.begin() as session:
        account = await credentials.read(session, "user_token")
    if account is None:
        raise TwitchNotConfigured("no Twitch account is connected", hint="connect one first")
    everybody = await access.helix.followed(account.about["user_id"])
    rest = sorted((one for one in everybody if _position(one) < after), key=_position)[::-1]
    page = rest[:limit]
    async with deps.db.begin() as session:
        rows = await streamers.find_known(session, TWITCH, user_ids=[one.user_id for one in page])
    known = {row.platform_user_id: row for row in rows}
    return Listing(
        items=[_follow(one, known.get(one.user_id)) for one in page],
        next_cursor=_encode(_position(page[-1])) if len(rest) > limit else None,
    )


def _logins(entries: Iterable[Entry]) -> set[str]:
    return {entry.login for entry in entries if entry.login}


# ---- the preview


async def _rows_of(session: AsyncSession, arrivals: Iterable[Arrival]) -> list[Streamer]:
    """Whom we follow of them."""
    found: list[Streamer] = []
    wanted = [arrival.new for arrival in arrivals if arrival.new]
    for platform in (TWITCH, ELSEWHERE):
        here = [new for new in wanted if new.platform == platform]
        logins = {new.login for new in here}
        user_ids = {new.user_id for new in here if new.user_id}
        found += await streamers.find_known(session, platform, logins=logins, user_ids=user_ids)
    return found


def _preview(arrivals: Iterable[Arrival], rows: Sequence[Streamer]) -> Iterator[PastedEntry]:
    above: set[tuple[str, str]] = set()
    for arrival in arrivals:
        new = arrival.new
        if new is None:
            yield _not_followable(arrival)
        elif (new.platform, new.login) in above:
            yield PastedEntry(input=arrival.input, status="duplicate", login=_login(new))
        else:
            above.add((new.platform, new.login))
            yield _followable(arrival, new, row_of(new, rows))


def _not_followable(arrival: Arrival) -> PastedEntry:
    status = "unknown" if arrival.is_unknown else "invalid"
    return PastedEntry(input=arrival.input, status=status, problem=arrival.problem)


def _followable(arrival: Arrival, new: NewStreamer, row: Streamer | None) -> PastedEntry:
    return PastedEntry(
        input=arrival.input,
        status="followed" if row else "new",
        login=_login(new),
        name=new.name,
        avatar=(avatar_of(row) if row else None) or new.avatar_url or None,
        url=new.url,
        user_id=new.user_id,
        streamer_id=row.id if row else None,
        problem=arrival.problem,
    )


def _login(new: NewStreamer) -> str | None:
    """What people call a login; an address has none."""
    return new.login if new.platform == TWITCH else None


# ---- importing


async def _add(session: AsyncSession, arrival: Arrival) -> ImportedEntry:
    if arrival.new is None:
        return ImportedEntry(input=arrival.input, status="refused", problem=arrival.problem)
    row, created = await streamers.add_streamer(session, arrival.new)
    return ImportedEntry(
        input=arrival.input,
        status="added" if created else "already",
        streamer_id=row.id,
        login=_login(arrival.new),
        name=row.name,
        problem=arrival.problem,
    )


# ---- follows


def _follow(one: Followed, row: Streamer | None) -> Follow:
    return Follow(
        user_id=one.user_id,
        login=one.login,
        name=one.name,
        followed_at=one.followed_at,
        followed_here=row is not None,
        streamer_id=row.id if row else None,
        avatar=avatar_of(row) if row else None,
    )


def _position(one: Followed) -> Position:
    return one.followed_at.timestamp(), one.user_id


def _encode(position: Position) -> str:
    return base64.urlsafe_b64encode("{}|{}".format(*position).encode()).decode()


def _decode(cursor: str) -> Position:
    try:
        at, _, user_id = base64.urlsafe_b64decode(cursor).decode().partition("|")
        return float(at), user_id
    except (ValueError, binascii.Error):
        raise InvalidInput(
            "the cursor is not one of ours", hint="use next_cursor of the page before"
        ) from None
