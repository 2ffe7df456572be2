"""Cursor paging over ids that sort by time: newest first, stable while rows are added."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from streamvault.errors import InvalidInput

_NUMBER = struct.Struct(">d")
"""Exact for bytes up to 2^53."""


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
    by: InstrumentedAttribute[Any] | None = None,
    ascending: bool = False,
) -> Page[Row]:
    """The next `limit` rows after `cursor`, the largest `by` (a number) first and within it the
    newest; `ascending` turns all of it round. Raises InvalidInput for a cursor that is not ours."""
    keys = [column for column in (by, id_column) if column is not None]
    if cursor:
        place = _decode(cursor, with_value=by is not None)
        query = query.where(_after(keys, place, ascending))
    order = [column.asc() if ascending else column.desc() for column in keys]
    rows = (await session.scalars(query.order_by(*order).limit(limit + 1))).all()
    items = rows[:limit]
    if len(rows) <= limit:
        return Page(items, None)
    last = items[-1]
    return Page(items, encode_cursor(*(getattr(last, column.key) for column in keys)))


def _after(
    keys: Sequence[InstrumentedAttribute[Any]], place: Sequence[Any], ascending: bool
) -> ColumnElement[bool]:
    one, other = tuple_(*keys), tuple_(*place)
    return one > other if ascending else one < other


def encode_cursor(*place: Any) -> str:
    """Of a row's id, with a number in front of it where that comes first in the order."""
    *value, last = place
    number = b"".join(_NUMBER.pack(v) for v in value)
    return base64.urlsafe_b64encode(number + last.bytes).rstrip(b"=").decode()


def _decode(cursor: str, *, with_value: bool) -> list[Any]:
    try:
        data = base64.urlsafe_b64decode(cursor.encode("ascii") + b"==")
        number = [*_NUMBER.unpack(data[:-16])] if with_value else []
        return [*number, UUID(bytes=data if not with_value else data[-16:])]
    except (ValueError, binascii.Error, struct.error):
        raise InvalidInput(
            "the cursor is not one of ours", hint="use next_cursor of the page before"
        ) from None
