"""Text as PostgreSQL takes it: titles come from outside, and JSON can say what UTF-8 cannot.

NUL is not allowed in its text (PostgreSQL manual, 8.3), half of a surrogate pair in no UTF-8
(RFC 3629 §3). A stream whose title holds one is recorded all the same."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from sqlalchemy import Dialect, Text
from sqlalchemy.types import TypeDecorator

_REFUSED = re.compile("[\0\ud800-\udfff]")
REPLACEMENT = "\ufffd"


def storable(text: str) -> str:
    return _REFUSED.sub(REPLACEMENT, text)


def to_json(value: Any) -> str:
    """For JSONB columns; times become RFC 3339."""
    return json.dumps(_storable(value), default=datetime.isoformat)


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {_storable(key): _storable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable(one) for one in value]
    return value


class Words(TypeDecorator[str]):
    """A text column, also where it is compared with something."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else storable(value)
