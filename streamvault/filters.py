"""Which streams of a streamer are recorded: lists of texts for title and category.

An entry is found anywhere in the text, whatever its case, width or white space; `*` stands for
anything in between. Between slashes it is a regular expression, of the kind that takes linear time:
a title comes from outside, and must not be able to hold up detection.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, core_schema

MAX_ENTRIES = 50
MAX_LENGTH = 200
MAX_TEXT = 1000
"""Of a title only so much is looked at; Twitch's have at most 140 characters."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Empty lists filter nothing."""

    title_allow: tuple[str, ...] = ()
    title_deny: tuple[str, ...] = ()
    category_allow: tuple[str, ...] = ()
    category_deny: tuple[str, ...] = ()

    @classmethod
    def read(cls, stored: Mapping[str, object]) -> Filters:
        """From the column of a row; what an older or newer release wrote there is left out."""
        return cls(**{name: _texts(stored.get(name)) for name in NAMES})

    def stored(self) -> dict[str, list[str]]:
        """For the column: only the lists that hold something."""
        return {name: list(entries) for name in NAMES if (entries := getattr(self, name))}


NAMES = tuple(field.name for field in fields(Filters))


def allows(filters: Filters, title: str, category: str) -> str | None:
    """None if the stream is to be recorded, else why not.

    A denied text wins; a list of allowed ones, if there is one, has to match. An entry that cannot
    be read matches nothing."""
    both = (
        ("title", title, filters.title_allow, filters.title_deny),
        ("category", category, filters.category_allow, filters.category_deny),
    )
    for what, text, _, deny in both:
        for entry in deny:
            if matches(entry, text):
                return f"its {what} matches {entry!r}, which is not to be recorded"
    for what, text, allow, _ in both:
        if allow and not any(matches(entry, text) for entry in allow):
            return f"its {what} is none of those that are to be recorded"
    return None


def matches(entry: str, text: str) -> bool:
    text = text[:MAX_TEXT]
    if (pattern := _pattern(entry)) is not None:
        compiled = _compile(pattern)
        return isinstance(compiled, SchemaValidator) and compiled.isinstance_python(
            unicodedata.normalize("NFC", text)
        )
    wanted, rest = fold(entry), fold(text)
    for piece in filter(None, map(str.strip, wanted.split("*"))):
        _, found, rest = rest.partition(piece)
        if not found:
            return False
    return bool(wanted)


def problem_of(entry: str) -> str | None:
    """Why this cannot be an entry, or None."""
    if not fold(entry):
        return "is empty"
    if len(entry) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    pattern = _pattern(entry)
    compiled = _compile(pattern) if pattern is not None else None
    return f"is not a regular expression: {compiled}" if isinstance(compiled, str) else None


def fold(text: str) -> str:
    """The same for texts that differ in case, width, composition or white space only."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def _pattern(entry: str) -> str | None:
    entry = entry.strip()
    return entry[1:-1] if len(entry) > 2 and entry[0] == entry[-1] == "/" else None


@lru_cache(maxsize=64)
def _compile(pattern: str) -> SchemaValidator | str:
    """By Rust's engine, which comes with pydantic; a broken one is what is wrong with it."""
    pattern = unicodedata.normalize("NFC", pattern)
    try:
        return SchemaValidator(core_schema.str_schema(pattern=f"(?i){pattern}"))
    except SchemaError as error:
        return re.sub(r"^\s*(SchemaError|error): ", "", str(error).splitlines()[-1])


def _texts(stored: object) -> tuple[str, ...]:
    return tuple(e for e in stored if isinstance(e, str)) if isinstance(stored, list) else ()
