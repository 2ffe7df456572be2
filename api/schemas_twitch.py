"""JSON of the Twitch connection. No secret ever goes out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field, SecretStr

from api.schemas import Body
from streamvault.db.credentials import SealedCredential
from streamvault.db.models import Fact, SignIn


class TokenState(BaseModel):
    """`checked` is false while Twitch has not been asked about the token."""

    set: bool
    valid: bool
    checked: bool
    login: str
    scopes: list[str]
    expires_at: datetime | None
    problem: str

    @classmethod
    def of(cls, row: SealedCredential | None) -> TokenState:
        if row is None:
            return cls(
                set=False,
                valid=False,
                checked=False,
                login="",
                scopes=[],
                expires_at=None,
                problem="",
            )
        return cls(
            set=True,
            valid=row.valid,
            checked=row.validated_at is not None,
            login=str(row.about.get("login", "")),
            scopes=list(row.about.get("scopes", [])),
            expires_at=row.expires_at,
            problem=str(row.about.get("problem", "")),
        )


class BrowserTokenStored(TokenState):
    note: str
    """Why it was not checked."""


class TransportState(BaseModel):
    """How news of streams arrive; `wanted` is the better way that `reason` rules out."""

    transport: str
    wanted: str
    reason: str
    connected: bool | None
    """None where there is no socket."""
    problem: str
    """Why subscriptions are missing."""
    cost: int
    max_cost: int
    desired: int
    subscriptions: dict[str, int]
    """By Twitch's word for their status."""
    last_message_at: datetime | None
    told_at: datetime

    @classmethod
    def of(cls, fact: Fact, last_message_at: datetime | None) -> TransportState:
        value = fact.value
        return cls(
            transport=str(value.get("transport", "")),
            wanted=str(value.get("wanted", "")),
            reason=str(value.get("reason", "")),
            connected=value.get("connected"),
            problem=str(value.get("problem", "")),
            cost=int(value.get("cost", 0)),
            max_cost=int(value.get("max_cost", 0)),
            desired=int(value.get("desired", 0)),
            subscriptions=dict(value.get("by_status", {})),
            last_message_at=last_message_at,
            told_at=fact.updated_at,
        )


class CircuitState(BaseModel):
    state: Literal["closed", "open", "half-open"]
    failures: int
    retry_after_s: float


class Circuits(BaseModel):
    """By group of Twitch's endpoints, once per process that asks Twitch."""

    worker: dict[str, CircuitState]
    api: dict[str, CircuitState]


class RateLimit(BaseModel):
    limit: int
    remaining: int
    reset_in_s: float


class PollState(BaseModel):
    at: datetime
    streamers: int
    live: int
    helix: bool
    why: str

    @classmethod
    def of(cls, fact: Fact) -> PollState:
        return cls(
            at=fact.updated_at,
            streamers=int(fact.value.get("streamers", 0)),
            live=int(fact.value.get("live", 0)),
            helix=bool(fact.value.get("helix", False)),
            why=str(fact.value.get("why", "")),
        )


class TwitchStatus(BaseModel):
    configured: bool
    """A client id is set: the device code works."""
    can_redirect: bool
    """A client secret is set as well: so does `/api/twitch/login`, and app tokens."""
    app_token: TokenState
    account: TokenState
    browser_token: TokenState
    transport: TransportState | None
    circuits: Circuits
    rate_limit: dict[str, RateLimit]
    """Of the worker, by kind of token."""
    last_poll: PollState | None


class DeviceStarted(BaseModel):
    id: str
    user_code: str
    verification_uri: str
    expires_at: datetime


class DeviceState(BaseModel):
    state: Literal["waiting", "connected", "denied", "expired", "failed"]
    error: str
    expires_at: datetime

    @classmethod
    def of(cls, row: SignIn, now: datetime) -> DeviceState:
        late = row.state == "waiting" and row.expires_at <= now
        state = "expired" if late else row.state
        return cls.model_validate(
            {"state": state, "error": row.error, "expires_at": row.expires_at}
        )


class NewBrowserToken(Body):
    token: SecretStr = Field(min_length=10, max_length=200)


def circuits_of(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, CircuitState]:
    return {name: CircuitState.model_validate(report) for name, report in reports.items()}
