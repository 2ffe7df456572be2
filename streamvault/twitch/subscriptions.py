"""What we want to hear against what Twitch lists: what to create, to adopt, to delete. Pure.

Only subscriptions that point to us are touched. The same client id may serve other installations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from streamvault.twitch.ladder import Rung
from streamvault.twitch.words import EventSubscription, SubscriptionList

TYPES = {"stream.online": "1", "stream.offline": "1", "channel.update": "2"}
"""Version by type, what matters most first: a budget is spent in this order."""
ONLINE = "stream.online"
ENABLED = "enabled"
PENDING = "webhook_callback_verification_pending"
UNVERIFIED = "webhook_callback_verification_failed"
# Twitch asks at once and waits some seconds for the answer.
PENDING_FOR = timedelta(minutes=5)
PER_SOCKET = 300
COST = 1  # of one subscription, unless that channel has authorised our application


@dataclass(frozen=True, slots=True)
class Want:
    user_id: str
    type: str

    @property
    def version(self) -> str:
        return TYPES[self.type]

    @property
    def condition(self) -> dict[str, str]:
        return {"broadcaster_user_id": self.user_id}

    @property
    def key(self) -> tuple[str, str]:
        """Of its row."""
        return self.user_id, self.type


@dataclass(frozen=True, slots=True)
class Target:
    """Where messages are to be sent. `place` is the callback, the conduit's id or the session's."""

    rung: Rung
    place: str = ""

    def is_of(self, subscription: EventSubscription) -> bool:
        return self.rung != Rung.POLL and _place_of(subscription) == (self.rung, self.place)

    def transport(self, secret: str) -> dict[str, str]:
        """As Twitch wants to be told; only a webhook has a secret."""
        match self.rung:
            case Rung.WEBHOOK:
                return {"method": "webhook", "callback": self.place, "secret": secret}
            case Rung.CONDUIT:
                return {"method": "conduit", "conduit_id": self.place}
            case _:
                return {"method": "websocket", "session_id": self.place}


@dataclass(frozen=True, slots=True)
class Ours:
    """How a subscription of this installation is known."""

    callback: str = ""
    """Without what follows `?`: there a new secret makes a new address."""
    conduits: frozenset[str] = frozenset()
    sessions: frozenset[str] = frozenset()

    def has(self, subscription: EventSubscription) -> bool:
        rung, place = _place_of(subscription)
        match rung:
            case Rung.WEBHOOK:
                return bool(self.callback) and place.partition("?")[0] == self.callback
            case Rung.CONDUIT:
                return place in self.conduits
            case _:
                return place in self.sessions


@dataclass(frozen=True, slots=True)
class Plan:
    keep: dict[Want, EventSubscription] = field(default_factory=dict)
    """Enabled, or waiting for the verification of the callback."""
    create: list[Want] = field(default_factory=list)
    """In the order of importance."""
    no_room: list[Want] = field(default_factory=list)
    """Wanted, but beyond what Twitch allows here."""
    broken: dict[Want, EventSubscription] = field(default_factory=dict)
    """Disabled by Twitch. They are in `remove` too, and in `create`."""
    remove: list[EventSubscription] = field(default_factory=list)
    replaced: list[EventSubscription] = field(default_factory=list)
    """They still deliver to another place of ours: to be removed once everything stands here."""


def wants_of(user_ids: Sequence[str]) -> list[Want]:
    """That somebody is live comes first, for all; then the rest."""
    return [Want(user_id, type) for type in TYPES for user_id in dict.fromkeys(user_ids)]


def make_plan(
    wants: Sequence[Want],
    listed: SubscriptionList,
    target: Target,
    ours: Ours,
    now: datetime,
) -> Plan:
    """`listed` has everything of the client id that the target's kind of token shows."""
    wanted = set(wants)
    mine = [item for item in listed.items if ours.has(item)]
    plan = Plan()
    for item in mine:
        want = want_of(item)
        if not target.is_of(item):
            delivers = want in wanted and item.status == ENABLED
            (plan.replaced if delivers else plan.remove).append(item)
        elif want is None or want not in wanted or want in plan.keep:
            plan.remove.append(item)
        elif _stands(item, now):
            plan.keep[want] = item
        else:
            plan.remove.append(item)
            plan.broken[want] = item
    most = PER_SOCKET if target.rung == Rung.WEBSOCKET else len(wants)
    _share_room(plan, wants, _room(listed, mine, target), most)
    return plan


def _room(listed: SubscriptionList, mine: Sequence[EventSubscription], target: Target) -> float:
    """The cost that our subscriptions at the target may have together."""
    if listed.max_total_cost <= 0:
        return float("inf")
    at_target = sum(item.cost for item in mine if target.is_of(item))
    return max(listed.max_total_cost - (listed.total_cost - at_target), 0)


def _share_room(plan: Plan, wants: Sequence[Want], room: float, most: int) -> None:
    """What matters more gets the room; what matters less makes room for it."""
    cost, count = 0, 0
    for want in wants:
        kept = plan.keep.get(want)
        more = kept.cost if kept else COST
        if cost + more <= room and count < most:
            cost, count = cost + more, count + 1
            if not kept:
                plan.create.append(want)
            continue
        plan.no_room.append(want)
        if kept:
            plan.remove.append(plan.keep.pop(want))


def _place_of(subscription: EventSubscription) -> tuple[Rung, str]:
    if subscription.conduit_id:
        return Rung.CONDUIT, subscription.conduit_id
    if subscription.session_id:
        return Rung.WEBSOCKET, subscription.session_id
    return Rung.WEBHOOK, subscription.callback


def want_of(subscription: EventSubscription) -> Want | None:
    """None for what we never ask for."""
    user_id = subscription.condition.get("broadcaster_user_id", "")
    if TYPES.get(subscription.type) != subscription.version or not user_id:
        return None
    return Want(user_id, subscription.type)


def _stands(subscription: EventSubscription, now: datetime) -> bool:
    if subscription.status == PENDING:
        made = subscription.created_at or now
        return now - made < PENDING_FOR
    return subscription.status == ENABLED
