"""Which recordings go, over random libraries. The rules are asked again in their own words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from streamvault.retention import Goes, Kept, Order, OwnRules, Rules, choose

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
GROUPS = ("alice", "bob", "carol")

limits = st.one_of(st.just(0), st.integers(1, 30))
own_limits = st.one_of(st.none(), limits)


@st.composite
def libraries(draw: st.DrawFn) -> list[Kept]:
    number = draw(st.integers(0, 25))
    return [
        Kept(
            id=UUID(int=n + 1),
            group=draw(st.sampled_from(GROUPS)),
            made_at=NOW - timedelta(hours=draw(st.integers(0, 40 * 24))),
            size_bytes=draw(st.integers(1, 9)),
            stays=draw(st.sampled_from(["", "", "", "locked", "being watched"])),
            disk=draw(st.integers(0, 1)),
            deleted=draw(st.sampled_from([False, False, False, True])),
        )
        for n in range(number)
    ]


orders = st.builds(
    Order,
    general=st.builds(Rules, limits, limits, limits),
    own=st.dictionaries(
        st.sampled_from(GROUPS), st.builds(OwnRules, own_limits, own_limits, own_limits)
    ),
    library_bytes=st.one_of(st.just(0), st.integers(1, 80)),
    min_free_bytes=st.one_of(st.just(0), st.integers(1, 60)),
    free_bytes=st.dictionaries(st.integers(0, 1), st.integers(0, 60)),
)


def without(library: Sequence[Kept], goes: Sequence[Goes]) -> list[Kept]:
    gone = {one.recording.id for one in goes}
    return [kept for kept in library if kept.id not in gone]


def freed(order: Order, goes: Sequence[Goes]) -> Order:
    """The same order once the disks have what was deleted."""
    free = {
        disk: bytes_ + sum(g.recording.size_bytes for g in goes if g.recording.disk == disk)
        for disk, bytes_ in order.free_bytes.items()
    }
    return Order(order.general, order.own, order.library_bytes, order.min_free_bytes, free)


def is_kept_to(library: Sequence[Kept], order: Order) -> bool:
    """Whether every rule holds, or nothing is left that could be deleted for it."""
    for group in GROUPS:
        theirs = [kept for kept in library if kept.group == group and not kept.deleted]
        may_go = [kept for kept in theirs if not kept.stays]
        rules = order.rules_of(group)
        if rules.days and any(NOW - k.made_at > timedelta(days=rules.days) for k in may_go):
            return False
        if rules.count and may_go and len(theirs) > rules.count:
            return False
        if rules.size_bytes and may_go and sum(k.size_bytes for k in theirs) > rules.size_bytes:
            return False
    may_go = [kept for kept in library if not kept.stays]
    if order.library_bytes and may_go and sum(k.size_bytes for k in library) > order.library_bytes:
        return False
    for disk, free in order.free_bytes.items():
        if free < order.min_free_bytes and any(kept.disk == disk for kept in may_go):
            return False
    return True


@given(libraries(), orders)
def test_what_stays_keeps_to_every_rule(library: list[Kept], order: Order) -> None:
    goes = choose(library, order, NOW)
    assert is_kept_to(without(library, goes), freed(order, goes))


@given(libraries(), orders)
def test_what_may_not_go_never_does(library: list[Kept], order: Order) -> None:
    goes = choose(library, order, NOW)
    assert not [one for one in goes if one.recording.stays]
    assert len({one.recording.id for one in goes}) == len(goes)
    assert all(one.why for one in goes)


@given(libraries(), orders)
def test_nothing_goes_that_could_have_stayed(library: list[Kept], order: Order) -> None:
    """Had the last one stayed, some rule would be broken."""
    goes = choose(library, order, NOW)
    if goes:
        one_less = goes[:-1]
        assert not is_kept_to(without(library, one_less), freed(order, one_less))


@given(libraries(), orders)
def test_asked_again_there_is_nothing_to_do(library: list[Kept], order: Order) -> None:
    goes = choose(library, order, NOW)
    assert choose(without(library, goes), freed(order, goes), NOW) == []


@given(libraries())
def test_without_rules_nothing_goes(library: list[Kept]) -> None:
    assert choose(library, Order(free_bytes={0: 0, 1: 0}), NOW) == []


def kept(number: int, days: int, size_bytes: int = 1, **more: object) -> Kept:
    made_at = NOW - timedelta(days=days)
    return Kept(UUID(int=number), "alice", made_at, size_bytes, **more)  # type: ignore[arg-type]


def ids(goes: Sequence[Goes]) -> list[int]:
    return [one.recording.id.int for one in goes]


def test_the_oldest_go_first_and_one_that_is_locked_counts_but_stays() -> None:
    library = [kept(1, 1), kept(2, 2), kept(3, 3, stays="locked"), kept(4, 4)]
    assert ids(choose(library, Order(Rules(count=2)), NOW)) == [4, 2]


def test_a_streamer_can_be_kept_for_ever_although_the_others_are_not() -> None:
    library = [kept(1, 100)]
    order = Order(Rules(days=30), own={"alice": OwnRules(days=0)})
    assert choose(library, order, NOW) == []
    assert ids(choose(library, Order(Rules(days=30)), NOW)) == [1]


def test_room_is_made_of_what_was_deleted_before_anything_else() -> None:
    library = [kept(1, 9, 10), kept(2, 1, 10, deleted=True)]
    order = Order(min_free_bytes=10, free_bytes={0: 0})
    goes = choose(library, order, NOW)
    assert ids(goes) == [2]
    assert goes[0].why.endswith("free")


def test_only_the_disk_that_is_full_loses_something() -> None:
    library = [kept(1, 9, 10, disk=1), kept(2, 8, 10, disk=0)]
    order = Order(min_free_bytes=5, free_bytes={0: 0, 1: 50})
    assert ids(choose(library, order, NOW)) == [2]
