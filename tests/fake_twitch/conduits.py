"""Conduits: who has which, and what their shards are doing. Routes are in `conduits_rest`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.fake_twitch.eventsub_words import ENABLED
from tests.fake_twitch.knobs import Knobs
from tests.fake_twitch.times import rfc3339

UNASSIGNED = "websocket_disconnected"


@dataclass
class Shard:
    id: str
    status: str = UNASSIGNED
    transport: dict[str, str] = field(default_factory=dict)
    """Empty until one is assigned; `secret` is in it, and never in an answer."""
    connected_at: float = 0

    def public(self) -> dict[str, Any]:
        transport: dict[str, Any] = {k: v for k, v in self.transport.items() if k != "secret"}
        if transport.get("method") == "websocket":
            transport["connected_at"] = rfc3339(self.connected_at)
        return {"id": self.id, "status": self.status, "transport": transport}


@dataclass
class Conduit:
    id: str
    client_id: str
    shards: list[Shard]
    down_since: float = 0
    """Epoch seconds; 0 while a shard is up, or before one ever was."""

    def public(self) -> dict[str, Any]:
        return {"id": self.id, "shard_count": len(self.shards)}

    def up(self) -> list[Shard]:
        return [shard for shard in self.shards if shard.status == ENABLED]

    def resize(self, shard_count: int) -> None:
        """The highest ids go first."""
        new = range(len(self.shards), shard_count)
        self.shards = [*self.shards[:shard_count], *(Shard(str(number)) for number in new)]

    def shard(self, shard_id: str) -> Shard | None:
        return next((shard for shard in self.shards if shard.id == shard_id), None)


@dataclass
class Conduits:
    """`on_disabled` learns of a shard that went down, `on_gone` of a conduit that was deleted."""

    knobs: Knobs
    conduits: dict[str, Conduit] = field(default_factory=dict)
    on_disabled: Callable[[Conduit, Shard], None] = lambda _conduit, _shard: None
    on_gone: Callable[[Conduit], None] = lambda _conduit: None

    def create(self, client_id: str, shard_count: int) -> Conduit:
        conduit = Conduit(str(uuid.uuid4()), client_id, [])
        conduit.resize(shard_count)
        self.conduits[conduit.id] = conduit
        return conduit

    def of(self, client_id: str) -> list[Conduit]:
        return [c for c in self.conduits.values() if c.client_id == client_id]

    def find(self, conduit_id: str, client_id: str) -> Conduit | None:
        conduit = self.conduits.get(conduit_id)
        return conduit if conduit and conduit.client_id == client_id else None

    def delete(self, conduit: Conduit) -> None:
        del self.conduits[conduit.id]
        self.on_gone(conduit)

    def assign(self, conduit: Conduit, shard: Shard, transport: dict[str, str], state: str) -> None:
        shard.transport, shard.status, shard.connected_at = transport, state, time.time()
        if state == ENABLED:
            conduit.down_since = 0

    def disable(self, conduit: Conduit, shard: Shard, status: str) -> None:
        if shard.status == status:
            return
        shard.status = status
        if not conduit.up():
            conduit.down_since = conduit.down_since or time.time()
        self.on_disabled(conduit, shard)

    def end_session(self, session_id: str, status: str) -> None:
        """The socket behind a shard is gone."""
        for conduit, shard in self._behind(session_id):
            self.disable(conduit, shard, status)

    def move_session(self, old: str, new: str) -> None:
        for _, shard in self._behind(old):
            shard.transport["session_id"] = new

    def delete_dead(self) -> None:
        """Those whose shards were all down for too long."""
        limit = time.time() - self.knobs.conduit_gone_after_s
        for conduit in list(self.conduits.values()):
            if conduit.down_since and conduit.down_since <= limit:
                self.delete(conduit)

    def _behind(self, session_id: str) -> list[tuple[Conduit, Shard]]:
        return [
            (conduit, shard)
            for conduit in self.conduits.values()
            for shard in conduit.shards
            if shard.transport.get("session_id") == session_id and shard.status == ENABLED
        ]
