"""Which recordings go when there are too many: pure, so that a preview and a run are the same.

Of each streamer those that are too old go, then the oldest until its number and its bytes fit; of
all together the oldest until the library's bytes fit, and on each disk until enough of it is free.
What may not be deleted stays, although it counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

NO_LIMIT = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one streamer's recordings; 0 is no limit."""

    days: int = NO_LIMIT
    count: int = NO_LIMIT
    size_bytes: int = NO_LIMIT


@dataclass(frozen=True, slots=True)
class OwnRules:
    """What a streamer has in place of the general rules; None takes these."""

    days: int | None = None
    count: int | None = None
    size_bytes: int | None = None

    def over(self, general: Rules) -> Rules:
        return Rules(
            general.days if self.days is None else self.days,
            general.count if self.count is None else self.count,
            general.size_bytes if self.size_bytes is None else self.size_bytes,
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """A finished recording in the library."""

    id: UUID
    group: str
    """Whose it is; rules for one streamer count within it."""
    made_at: datetime
    size_bytes: int
    stays: str = ""
    """Why it may not be deleted; empty if it may."""
    disk: int = 0
    """Which of the library's disks has it."""
    deleted: bool = False
    """By a person, but still there: goes first when room is wanted."""


Weight = Callable[[Kept], int]


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be kept to."""

    general: Rules = Rules()
    own: Mapping[str, OwnRules] = field(default_factory=dict)
    """By group."""
    library_bytes: int = NO_LIMIT
    min_free_bytes: int = NO_LIMIT
    free_bytes: Mapping[int, int] = field(default_factory=dict)
    """Of each disk now; of one that is not named here nothing is known, and nothing wanted."""

    def rules_of(self, group: str) -> Rules:
        return self.own.get(group, OwnRules()).over(self.general)


@dataclass(frozen=True, slots=True)
class Goes:
    recording: Kept
    why: str
    """Which rule it was, in words."""


def choose(library: Iterable[Kept], order: Order, now: datetime) -> list[Goes]:
    """Those that go, in the order in which they do; asked again without them, there are none."""
    plan = _Plan(sorted(library, key=lambda kept: (kept.made_at, kept.id)))
    for group, theirs in plan.groups().items():
        rules = order.rules_of(group)
        if rules.days:
            plan.drop_older(theirs, now - timedelta(days=rules.days), f"older than {rules.days} d")
        if rules.count:
            plan.drop_until(theirs, rules.count, lambda _: 1, f"more than {rules.count} recordings")
        if rules.size_bytes:
            plan.drop_until(theirs, rules.size_bytes, _size, f"more than {_gb(rules.size_bytes)}")
    everything = [*plan.trash(), *plan.live()]
    if order.library_bytes:
        why = f"the library has more than {_gb(order.library_bytes)}"
        plan.drop_until(everything, order.library_bytes, _size, why)
    for disk, free in order.free_bytes.items() if order.min_free_bytes else ():
        here = [kept for kept in everything if kept.disk == disk]
        held = sum(kept.size_bytes for kept in here)
        # As many bytes may stay here as leave enough free.
        most = held + free - order.min_free_bytes
        plan.drop_until(here, most, _size, f"less than {_gb(order.min_free_bytes)} free")
    return plan.going


class _Plan:
    def __init__(self, library: Sequence[Kept]) -> None:
        self._library = library
        self.going: list[Goes] = []
        self._gone: set[UUID] = set()

    def groups(self) -> dict[str, list[Kept]]:
        found: dict[str, list[Kept]] = defaultdict(list)
        for kept in self.live():
            found[kept.group].append(kept)
        return found

    def live(self) -> list[Kept]:
        return [kept for kept in self._library if not kept.deleted]

    def trash(self) -> list[Kept]:
        return [kept for kept in self._library if kept.deleted]

    def drop_older(self, some: Sequence[Kept], limit: datetime, why: str) -> None:
        for kept in some:
            if kept.made_at < limit:
                self._drop(kept, why)

    def drop_until(self, some: Sequence[Kept], most: int, weight: Weight, why: str) -> None:
        """The first ones, until the rest weighs no more than `most`; counted with those that went
        by an earlier rule taken off."""
        left = sum(weight(kept) for kept in some)
        left -= sum(weight(kept) for kept in some if kept.id in self._gone)
        for kept in some:
            if left <= most:
                return
            if kept.id not in self._gone and self._drop(kept, why):
                left -= weight(kept)

    def _drop(self, kept: Kept, why: str) -> bool:
        if kept.stays:
            return False
        self._gone.add(kept.id)
        self.going.append(Goes(kept, why))
        return True


def _size(kept: Kept) -> int:
    return kept.size_bytes


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.3g} GB"
