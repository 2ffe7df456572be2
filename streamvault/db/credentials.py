"""Queries about stored secrets, which are sealed before they come here. They never commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete as delete_from
from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db.models import Credential
from streamvault.errors import DependencyUnavailable

LOCK_WAIT_S = 15  # longer than the call to Twitch that another process makes under the lock
LOCK_NOT_AVAILABLE = "55P03"  # SQLSTATE


@dataclass(frozen=True, slots=True)
class SealedCredential:
    """`about` is what may be shown: login, user id, scopes, problem."""

    name: str
    sealed: str = field(repr=False)
    """Empty while there is no secret, only a problem."""
    about: Mapping[str, Any]
    valid: bool
    expires_at: datetime | None
    validated_at: datetime | None


async def read(session: AsyncSession, name: str) -> SealedCredential | None:
    row = await session.get(Credential, name)
    return _sealed(row) if row and row.sealed else None


async def lock(session: AsyncSession, name: str) -> SealedCredential:
    """The credential, which nobody else can lock or change until the transaction ends. One that was
    not there is made, without a secret.

    Raises DependencyUnavailable when another transaction holds it for too long."""
    try:
        await session.execute(text(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'"))
        empty = {"name": name, "sealed": "", "valid": False}
        await session.execute(insert(Credential).values(empty).on_conflict_do_nothing())
        row = (
            await session.scalars(
                select(Credential)
                .where(Credential.name == name)
                .with_for_update()
                .execution_options(populate_existing=True)
            )
        ).one()
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        raise DependencyUnavailable(
            f"another process holds {name} for more than {LOCK_WAIT_S} s"
        ) from None
    return _sealed(row)


async def write(
    session: AsyncSession,
    name: str,
    sealed: str,
    *,
    about: Mapping[str, Any] | None = None,
    expires_at: datetime | None = None,
    validated_at: datetime | None = None,
    valid: bool = True,
) -> None:
    """Put it there, whatever was there before."""
    values = {
        "sealed": sealed,
        "about": dict(about or {}),
        "valid": valid,
        "expires_at": expires_at,
        "validated_at": validated_at,
        "updated_at": datetime.now(UTC),
    }
    statement = insert(Credential).values(name=name, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


async def mark_invalid(session: AsyncSession, name: str, problem: str) -> None:
    """It stays, so that the status can tell whose it was and what is wrong."""
    about = Credential.about.concat({"problem": problem})
    await session.execute(
        update(Credential)
        .where(Credential.name == name)
        .values(valid=False, about=about, updated_at=datetime.now(UTC))
    )


async def delete(session: AsyncSession, name: str) -> None:
    await session.execute(delete_from(Credential).where(Credential.name == name))


async def describe_all(session: AsyncSession) -> dict[str, SealedCredential]:
    """By name: every credential that is there, and those that are not because of a problem."""
    rows = await session.scalars(select(Credential).order_by(Credential.name))
    return {row.name: _sealed(row) for row in rows if row.sealed or row.about}


def _sealed(row: Credential) -> SealedCredential:
    return SealedCredential(
        row.name, row.sealed, row.about, row.valid, row.expires_at, row.validated_at
    )
