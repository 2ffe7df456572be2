"""Queries about those who may come in: users, their browsers, their keys. They never commit.

Cookies and keys hold 256 random bits and are kept as SHA-256 alone, so that a copy of the database
lets nobody in. They need no slow hash: nobody guesses 256 bits.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db.ids import as_uuid, uuid7
from streamvault.db.models_access import ApiKey, User, UserSession
from streamvault.errors import Conflict, NotFound

TOKEN_BYTES = 32
KEY_PREFIX = "sv_"
SHOWN_CHARACTERS = 9
# OWASP ASVS 5.0.0, 7.3.1 and 7.3.2.
IDLE = timedelta(hours=24)
LIFETIME = timedelta(days=30)
# Reading a page should not write a row each time.
SEEN_EVERY = timedelta(minutes=5)
AGENT_CHARACTERS = 200
_FIRST_USER_LOCK = 7_315_001  # any number, the same in every process


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whose request it is."""

    user_id: UUID
    name: str
    scope: str
    """`read`, `record` or `admin`."""
    session_id: str = ""
    """Of a browser; empty for a key."""
    key_shown: str = ""

    @property
    def actor(self) -> str:
        return f"key:{self.key_shown}" if self.key_shown else f"user:{self.name}"


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


# ---- users


async def has_users(session: AsyncSession) -> bool:
    return bool(await session.scalar(select(select(User.id).exists())))


async def claim(session: AsyncSession, name: str, password_hash: str) -> User | None:
    """The first user, an administrator; None when somebody was faster."""
    await session.execute(select(func.pg_advisory_xact_lock(_FIRST_USER_LOCK)))
    if await has_users(session):
        return None
    return await add_user(session, name, password_hash, is_admin=True)


async def add_user(
    session: AsyncSession, name: str, password_hash: str, *, is_admin: bool = False
) -> User:
    """Raises Conflict for a name that is taken, in whatever case."""
    row = {"id": uuid7(), "name": name, "password_hash": password_hash, "is_admin": is_admin}
    made = insert(User).values(row).on_conflict_do_nothing().returning(User)
    user = (await session.scalars(made)).one_or_none()
    if user is None:
        raise Conflict(f"there is a user {name} already")
    return user


async def find_user(session: AsyncSession, name: str) -> User | None:
    return await session.scalar(select(User).where(func.lower(User.name) == name.lower()))


async def get_user(session: AsyncSession, user_id: str | UUID) -> User:
    found = await session.get(User, as_uuid(user_id, "user"))
    if found is None:
        raise NotFound(f"there is no user {user_id}")
    return found


async def list_users(session: AsyncSession) -> Sequence[User]:
    return (await session.scalars(select(User).order_by(User.id))).all()


async def delete_user(session: AsyncSession, user_id: str | UUID) -> User:
    """With browsers and keys. Raises NotFound, Conflict for the last administrator."""
    await session.execute(select(func.pg_advisory_xact_lock(_FIRST_USER_LOCK)))
    user = await get_user(session, user_id)
    others = select(User.id).where(User.is_admin, User.id != user.id).exists()
    if user.is_admin and not await session.scalar(select(others)):
        raise Conflict("the last administrator cannot be deleted")
    await session.delete(user)
    await session.flush()
    return user


# ---- browsers


async def open_session(
    session: AsyncSession, user_id: UUID, *, address: str = "", agent: str = ""
) -> str:
    """What the cookie is to hold. Also clears away sessions that have ended."""
    now = datetime.now(UTC)
    await session.execute(delete(UserSession).where(~_lives(now)))
    token = secrets.token_urlsafe(TOKEN_BYTES)
    row = UserSession(
        id=digest(token), user_id=user_id, address=address, agent=agent[:AGENT_CHARACTERS]
    )
    session.add(row)
    await session.flush()
    return token


async def visitor_of_session(session: AsyncSession, token: str) -> Visitor | None:
    """Whose browser it is; None when its time is over."""
    now = datetime.now(UTC)
    found = await session.execute(
        select(User.id, User.name, User.is_admin, UserSession.id, UserSession.seen_at)
        .join(User, User.id == UserSession.user_id)
        .where(UserSession.id == digest(token), _lives(now))
    )
    row = found.one_or_none()
    if row is None:
        return None
    user_id, name, is_admin, session_id, seen_at = row
    if seen_at < now - SEEN_EVERY:
        seen = update(UserSession).where(UserSession.id == session_id).values(seen_at=now)
        await session.execute(seen)
    return Visitor(user_id, name, "admin" if is_admin else "record", session_id)


async def end_session(session: AsyncSession, session_id: str) -> None:
    await session.execute(delete(UserSession).where(UserSession.id == session_id))


async def end_sessions(session: AsyncSession, user_id: UUID, *, but: str = "") -> int:
    """Sign out everywhere; `but` names a session that stays. How many there were."""
    chosen = (UserSession.user_id == user_id, UserSession.id != but)
    gone = await session.execute(delete(UserSession).where(*chosen).returning(UserSession.id))
    return len(gone.all())


async def list_sessions(session: AsyncSession, user_id: UUID) -> Sequence[UserSession]:
    """That have not ended, the last seen first."""
    found = await session.scalars(
        select(UserSession)
        .where(UserSession.user_id == user_id, _lives(datetime.now(UTC)))
        .order_by(UserSession.seen_at.desc())
    )
    return found.all()


def _lives(now: datetime) -> ColumnElement[bool]:
    return (UserSession.seen_at > now - IDLE) & (UserSession.created_at > now - LIFETIME)


# ---- keys


async def add_key(
    session: AsyncSession, user_id: UUID, name: str, scope: str, expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """The row and the key itself, which nobody can show again."""
    key = KEY_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    row = ApiKey(
        id=uuid7(),
        user_id=user_id,
        name=name,
        key_hash=digest(key),
        shown=key[:SHOWN_CHARACTERS],
        scope=scope,
        expires_at=expires_at,
    )
    session.add(row)
    await session.flush()
    await session.refresh(row)
    return row, key


async def visitor_of_key(session: AsyncSession, key: str) -> Visitor | None:
    """Whose key it is; None for one that is unknown, revoked or over."""
    now = datetime.now(UTC)
    found = await session.execute(
        select(ApiKey, User.name, User.is_admin)
        .join(User, User.id == ApiKey.user_id)
        .where(ApiKey.key_hash == digest(key))
    )
    row = found.one_or_none()
    if row is None or (row[0].expires_at and row[0].expires_at <= now):
        return None
    kept, name, is_admin = row
    if kept.used_at is None or kept.used_at < now - SEEN_EVERY:
        await session.execute(update(ApiKey).where(ApiKey.id == kept.id).values(used_at=now))
    # Whoever is no administrator any more has no administrator's keys either.
    scope = "record" if kept.scope == "admin" and not is_admin else kept.scope
    return Visitor(kept.user_id, name, scope, key_shown=kept.shown)


async def list_keys(session: AsyncSession) -> Sequence[tuple[ApiKey, str]]:
    """With the names of their owners."""
    found = await session.execute(
        select(ApiKey, User.name).join(User, User.id == ApiKey.user_id).order_by(ApiKey.id)
    )
    return [(key, name) for key, name in found]


async def delete_key(session: AsyncSession, key_id: str | UUID) -> None:
    """Raises NotFound."""
    chosen = ApiKey.id == as_uuid(key_id, "API key")
    gone = await session.execute(delete(ApiKey).where(chosen).returning(ApiKey.id))
    if gone.first() is None:
        raise NotFound(f"there is no API key {key_id}")
