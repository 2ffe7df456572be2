"""What goes wrong with notifications on their way, by rules that the control routes add."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

from tests.fake_twitch.eventsub_words import DeliveryLog, Message
from tests.fake_twitch.faults import Refused

KINDS = frozenset(
    {
        "drop",  # never sent
        "duplicate",  # `copies` more of it, all at once
        "reorder",  # held until the next message has gone, `seconds` at most
        "delay",  # sent `seconds` later
        "forge",  # a copy with a wrong signature and an id of its own comes first
        "stale",  # a well signed copy with an old timestamp and an id of its own comes first
    }
)
STALE_S = 11 * 60
"""EventSub's receivers refuse what is older than 10 minutes."""

Send = Callable[[Message, str], Awaitable[None]]
"""Sends a message; the text is what was done to it."""


@dataclass
class Disturbance:
    """One rule. It ends after `count` messages, or `duration_s` seconds, or never (0)."""

    id: int
    kind: str
    type: str = ""
    channel: str = ""
    """Login of the broadcaster."""
    transport: str = ""
    count: int = 0
    until: float = 0
    copies: int = 1
    seconds: float = 1
    instead: bool = False
    """Only the false copy is sent."""
    hits: int = 0

    def about(self, message: Message, login: str) -> bool:
        subscription = message.subscription
        return (
            self.type in ("", subscription.type)
            and self.channel in ("", login)
            and self.transport in ("", subscription.method)
            and (not self.count or self.hits < self.count)
            and (not self.until or time.monotonic() < self.until)
        )


@dataclass
class Disturbances:
    log: DeliveryLog
    rules: dict[int, Disturbance] = field(default_factory=dict)
    _ids: count[int] = field(default_factory=lambda: count(1))
    _held: list[asyncio.Event] = field(default_factory=list)

    def add(self, kind: str, *, duration_s: float = 0, **fields: object) -> Disturbance:
        if kind not in KINDS:
            raise Refused(f"kind is one of {sorted(KINDS)}")
        until = time.monotonic() + duration_s if duration_s else 0
        rule = Disturbance(next(self._ids), kind, until=until, **fields)  # type: ignore[arg-type]
        self.rules[rule.id] = rule
        return rule

    async def carry(self, message: Message, login: str, send: Send) -> None:
        """Send the notification, as the first rule that fits wants it."""
        rule = next((r for r in self.rules.values() if r.about(message, login)), None)
        if rule is None:
            return await self._send(message, send)
        rule.hits += 1
        match rule.kind:
            case "drop":
                self.log.begin(message, message.subscription.method, "drop")
                return None
            case "delay":
                await asyncio.sleep(rule.seconds)
            case "reorder" if not self._held:
                await self._hold(rule.seconds)
                return await send(message, "")
            case "duplicate":
                copies = [send(message, "duplicate") for _ in range(rule.copies)]
                await asyncio.gather(send(message, ""), *copies)
                return self._let_go()
            case "forge" | "stale":
                await send(message, rule.kind)
                if rule.instead:
                    return None
        return await self._send(message, send)

    async def _send(self, message: Message, send: Send) -> None:
        """What was held goes after this one."""
        try:
            await send(message, "")
        finally:
            self._let_go()

    async def _hold(self, at_most_s: float) -> None:
        gone = asyncio.Event()
        self._held.append(gone)
        try:
            await asyncio.wait_for(gone.wait(), at_most_s)
        except TimeoutError:
            pass
        finally:
            if gone in self._held:
                self._held.remove(gone)

    def _let_go(self) -> None:
        for gone in self._held:
            gone.set()
        self._held.clear()
