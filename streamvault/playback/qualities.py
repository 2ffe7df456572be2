"""What users write for a quality: rules, in the order of preference. Knows nothing of streamlink.

best                     the largest picture
worst
1080p60, audio_only, …   a name that the source has
<=1080p60                the largest one of at most 1080 lines and 60 pictures a second
best<=720p               the same; without a rate any will do
1080p60, 720p60, best    the first one of these that there is
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from streamvault.errors import InvalidInput

BEST, WORST = "best", "worst"
MAX_LENGTH = 200
TAKEN = "best, worst, a name such as 720p60 or audio_only, a limit such as <=1080p60, or a list"
_LIMIT = re.compile(r"(?:best)?\s*<=\s*(\d{2,5})p(\d{1,3})?")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.+-]{0,39}")
_SIZE = re.compile(r"(\d{2,5})p(\d{1,3})?")


@dataclass(frozen=True, slots=True)
class Rule:
    """Either a name, `best` and `worst` among them, or limits."""

    name: str = ""
    max_height: int = 0
    max_fps: int = 0

    @property
    def is_limit(self) -> bool:
        return self.max_height > 0


def parse_quality(text: str) -> tuple[Rule, ...]:
    """The rules in the order of preference, at least one. Raises InvalidInput that names the one
    that is none."""
    if len(text) > MAX_LENGTH:
        raise InvalidInput(f"a quality has at most {MAX_LENGTH} characters", hint=f"takes {TAKEN}")
    return tuple(_rule(item.strip().lower()) for item in text.split(","))


def check_quality(text: str) -> None:
    """Raises InvalidInput."""
    parse_quality(text)


def size_in(name: str) -> tuple[int, int] | None:
    """Lines and pictures a second that a name such as `720p60` speaks of; the rate may be 0."""
    found = _SIZE.match(name)
    return (int(found[1]), int(found[2] or 0)) if found else None


def _rule(text: str) -> Rule:
    if found := _LIMIT.fullmatch(text):
        return Rule(max_height=int(found[1]), max_fps=int(found[2] or 0))
    if not _NAME.fullmatch(text):
        raise InvalidInput(f"{text[:40]!r} is no quality", hint=f"takes {TAKEN}")
    return Rule(name=text)
