"""Pages of a list, and the cursors between them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from starlette.datastructures import QueryParams

from tests.fake_twitch.front import Denied
from tests.fake_twitch.knobs import Knobs


def page(
    found: Sequence[Any], query: QueryParams, knobs: Knobs, *, first: int = 20
) -> dict[str, Any]:
    """`data` and `pagination`; `first` is the size when the query names none, 100 the most."""
    size = _size(query.get("first"), first)
    if knobs.page_size:
        size = min(size, knobs.page_size)
    start = _place(query.get("after", ""))
    end = start + size
    more = end < len(found) or (knobs.trailing_cursor and start < len(found))
    overlap = min(knobs.page_overlap, start)
    data = list(found[start - overlap : end])
    return {"data": data, "pagination": {"cursor": _cursor(end)} if more else {}}


def _size(asked: str | None, usual: int) -> int:
    if asked is None:
        return usual
    if not asked.isdigit() or not 1 <= int(asked) <= 100:
        raise Denied(400, 'The parameter "first" was malformed: the value must be from 1 to 100')
    return int(asked)


def _cursor(place: int) -> str:
    return base64.urlsafe_b64encode(f"at {place}".encode()).decode()


def _place(cursor: str) -> int:
    if not cursor:
        return 0
    try:
        word, _, place = base64.urlsafe_b64decode(cursor).decode().partition(" ")
        if word == "at":
            return int(place)
    except (binascii.Error, ValueError):
        pass
    raise Denied(400, "The cursor was invalid")
