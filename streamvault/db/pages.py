"""Cursor paging over ids that sort by time: newest first, stable while rows are added."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from streamvault.errors import InvalidInput


class HasId(Protocol):
    @property
    def id(self) -> Any: ...


Row = TypeVar("Row", bound=HasId)


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    items: Sequence[Row]
    next_cursor: str | None


async def fetch_page(
    session: AsyncSession,
    query: Select[Row],
    id_column: InstrumentedAttribute[UUID],
    *,
    limit: int,
    cursor: str | None,
) -> Page[Row]:
    """The next `limit` rows after `cursor`. Raises InvalidInput for a cursor that is not ours."""
    if cursor:
        query = query.where(id_column < decode_cursor(cursor))
    rows = (await session.scalars(query.order_by(id_column.desc()).limit(limit + 1))).all()
    more = len(rows) > limit
    items = rows[:limit]
    return Page(items, encode_cursor(items[-1].id) if more else None)


def encode_cursor(last: UUID) -> str:
    return base64.urlsafe_b64encode(last.bytes).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> UUID:
    try:
        return UUID(bytes=base64.urlsafe_b64decode(cursor.encode("ascii") + b"=="))
    except (ValueError, binascii.Error):
        raise InvalidInput(
            "the cursor is not one of ours", hint="use next_cursor of the page before"
        ) from None
