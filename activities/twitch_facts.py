"""What the worker knows of Twitch, for the processes that show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any

from streamvault.db import facts
from streamvault.db.session import Database

if TYPE_CHECKING:
    from activities.twitch_access import TwitchAccess

# Also what has not changed, so that a reader can tell it from the words of a worker that is gone.
SAID_AGAIN_S = 60.0


def facts_of(access: TwitchAccess) -> dict[str, dict[str, Any]]:
    """Circuits, rate limit, and how far our clock is off; the last once Twitch has answered."""
    found: dict[str, dict[str, Any]] = {
        facts.CIRCUITS: access.circuits(),
        facts.RATELIMIT: access.rate_limits(),
    }
    if (skew_s := access.gate.clock_skew_s) is not None:
        found[facts.CLOCK] = {"skew_s": round(skew_s, 1)}
    return found


@dataclass
class TwitchFacts:
    """Call `share` every few seconds: it writes when a circuit has changed, else once a minute."""

    db: Database
    access: TwitchAccess
    _said: dict[str, str] = field(default_factory=dict)
    _said_at: float = 0.0

    async def share(self) -> None:
        """Raises DependencyUnavailable."""
        found = facts_of(self.access)
        states = {name: report["state"] for name, report in found[facts.CIRCUITS].items()}
        if states == self._said and monotonic() < self._said_at + SAID_AGAIN_S:
            return
        async with self.db.begin() as session:
            for name, value in found.items():
                await facts.put_fact(session, name, value)
        self._said, self._said_at = states, monotonic()
