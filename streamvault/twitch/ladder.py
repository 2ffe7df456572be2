"""Which way EventSub's messages take: webhook, else conduit, else WebSocket, else only the poll.

Pure. Nothing is assumed of what Twitch allows: a rung is stood on until an answer of Twitch's says
that it does not hold. The poll runs on every rung.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import urlsplit

from streamvault.settings import PREFIX

RETRY_AFTER = timedelta(hours=1)
"""A better rung is tried again then; a restart does so at once."""
AUTO = "auto"
PATH = "/eventsub"
HTTPS_PORT = 443
NOT_SET_UP = "no Twitch application is set up"


class Rung(StrEnum):
    """From the best down."""

    WEBHOOK = "webhook"
    CONDUIT = "conduit"
    WEBSOCKET = "websocket"
    POLL = "poll"


RUNGS = tuple(Rung)


@dataclass(frozen=True, slots=True)
class Means:
    """What there is to stand on."""

    setting: str
    """EVENTSUB_TRANSPORT."""
    base_url: str
    app_problem: str = ""
    """Why the application has no token of its own; empty when it has."""
    user_problem: str = ""
    """The same of a signed-in user's token."""
    insecure: bool = False
    """Plain http and other ports are fine, as a test's Twitch calls them."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A rung that does not hold, in Twitch's words; it may still carry some channels."""

    reason: str
    at: datetime
    carries: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    transport: Rung
    wanted: Rung
    """The best rung that settings and addresses allow."""
    reason: str = ""
    """Why not the better ones, or why this one does not carry all; empty when all is well."""


def choose(means: Means, refusals: Mapping[Rung, Refusal], now: datetime) -> Standing:
    """The best rung that holds. If none carries every channel, the one that carries most."""
    asked = _asked(means)
    fresh = {rung: said for rung, said in refusals.items() if now - said.at < RETRY_AFTER}
    problems = {
        rung: problem
        for rung in asked
        if (problem := _missing(rung, means) or (fresh[rung].reason if rung in fresh else ""))
    }
    possible = [rung for rung in asked if not _missing(rung, means)]
    transport = _holding(possible, fresh)
    reasons = [
        f"{rung}: {why}"
        for rung, why in problems.items()
        if RUNGS.index(rung) <= RUNGS.index(transport)
    ]
    return Standing(transport, asked[0], "; ".join(reasons))


def callback_of(base_url: str) -> str:
    return f"{base_url.rstrip('/')}{PATH}"


def _holding(possible: list[Rung], refused: Mapping[Rung, Refusal]) -> Rung:
    for rung in possible:
        if rung not in refused:
            return rung
    some = [rung for rung in possible if refused[rung].carries > 0]
    # The lower of two equals: it is the one in use after the other was left.
    return max(reversed(some), key=lambda rung: refused[rung].carries, default=Rung.POLL)


def _asked(means: Means) -> list[Rung]:
    """The rungs that the setting allows, the best first; never empty."""
    if means.setting != AUTO:
        return [Rung(means.setting)]
    below_webhook = [Rung.CONDUIT, Rung.WEBSOCKET]
    return [Rung.WEBHOOK, *below_webhook] if _can_be_called(means) else below_webhook


def _missing(rung: Rung, means: Means) -> str:
    """What this rung needs and does not have, in plain words."""
    if rung is Rung.WEBHOOK and not _can_be_called(means):
        return f"webhooks need {PREFIX}BASE_URL with https on port {HTTPS_PORT}"
    if rung in (Rung.WEBHOOK, Rung.CONDUIT):
        return means.app_problem
    return means.user_problem if rung is Rung.WEBSOCKET else ""


def _can_be_called(means: Means) -> bool:
    """Whether Twitch would take the address for webhooks; not whether it gets through to it."""
    if not means.base_url:
        return False
    if means.insecure:
        return True
    parts = urlsplit(means.base_url)
    try:
        return parts.scheme == "https" and parts.port in (None, HTTPS_PORT)
    except ValueError:
        return False
