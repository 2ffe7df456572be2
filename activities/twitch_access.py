"""Everything that a process needs to speak with Twitch, made once and only where it is needed."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import httpx
import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db import credentials
from streamvault.db.credentials import SealedCredential
from streamvault.db.session import Database
from streamvault.errors import Conflict, SecretUnreadable
from streamvault.metrics.system import Metrics
from streamvault.metrics.twitch import TwitchFigures
from streamvault.secrets import Keyring, load_keyring
from streamvault.settings import PREFIX, Settings
from streamvault.twitch.breaker import Breakers
from streamvault.twitch.exchange import TOTAL_S, open_http
from streamvault.twitch.gate import Gate
from streamvault.twitch.helix import Helix
from streamvault.twitch.limiter import Limiter
from streamvault.twitch.oauth import OAuth
from streamvault.twitch.tokens import StoredToken, Tokens

log = logging.getLogger(__name__)

EVENTSUB_SECRET, PREVIOUS_SECRET = "eventsub_secret", "eventsub_secret_previous"
SECRET_BYTES = 32


@dataclass(frozen=True)
class TwitchAccess:
    """See `open`; ended by `close`."""

    settings: Settings
    db: Database
    keyring: Keyring
    http: httpx.AsyncClient
    gate: Gate
    breakers: Breakers
    limiter: Limiter
    oauth: OAuth
    tokens: Tokens
    helix: Helix
    figures: TwitchFigures

    @classmethod
    def open(
        cls,
        settings: Settings,
        db: Database,
        metrics: Metrics | TwitchFigures,
        *,
        total_s: float = TOTAL_S,
    ) -> TwitchAccess:
        """`metrics` of the process or of Twitch alone; `total_s`: how long one call may take."""
        figures = metrics.twitch if isinstance(metrics, Metrics) else metrics
        keyring = load_keyring(settings)
        breakers, limiter = Breakers(figures), Limiter(figures)
        http = open_http(settings.ca_bundle)
        gate = Gate(http, breakers, limiter, figures, total_s=total_s)
        client_id = settings.twitch_client_id
        oauth = OAuth(gate, settings.twitch_auth_url, client_id, settings.twitch_client_secret)
        tokens = Tokens(oauth, TokenStore(db, keyring), figures)
        return cls(
            settings=settings,
            db=db,
            keyring=keyring,
            http=http,
            gate=gate,
            breakers=breakers,
            limiter=limiter,
            oauth=oauth,
            tokens=tokens,
            helix=Helix(gate, tokens, settings.twitch_helix_url, client_id),
            figures=figures,
        )

    async def close(self) -> None:
        await self.tokens.close()
        await self.http.aclose()

    @property
    def configured(self) -> bool:
        """Whether an app token can be had; signing in by device code needs the client id alone."""
        return bool(self.settings.twitch_client_id and self.settings.twitch_client_secret)

    def circuits(self) -> dict[str, dict[str, Any]]:
        """By name: `state`, `failures` in a row, `retry_after_s`."""
        return {name: asdict(report) for name, report in self.breakers.reports().items()}

    def rate_limits(self) -> dict[str, dict[str, Any]]:
        """By bucket, `app` or `user`: `limit`, `remaining`, `reset_in_s`."""
        return {name: asdict(report) for name, report in self.limiter.reports().items()}

    # ---- the secret that EventSub signs with

    async def eventsub_secret(self) -> str:
        """The one for new subscriptions: that of the setting, else one that is made once."""
        return (await self.eventsub_secrets())[0]

    async def eventsub_secrets(self) -> list[str]:
        """The ones that a message may be signed with: the current one and, until
        `forget_previous_secret`, the one before it."""
        async with self.db.begin() as session:
            current = self._opened(await credentials.read(session, EVENTSUB_SECRET))
            previous = self._opened(await credentials.read(session, PREVIOUS_SECRET))
        fixed = self._fixed_secret
        if not current or fixed not in ("", current):
            return await self._change_secret(keep=True)
        return [current, previous] if previous else [current]

    async def rotate_eventsub_secret(self) -> str:
        """A new one; the one before it is accepted until `forget_previous_secret`.

        Raises Conflict when the setting fixes it."""
        if self._fixed_secret:
            raise Conflict(
                "EventSub's secret is set from outside", hint=f"change {PREFIX}EVENTSUB_SECRET"
            )
        return (await self._change_secret(keep=False))[0]

    async def forget_previous_secret(self) -> None:
        """Once no subscription is left that was made with it."""
        async with self.db.begin() as session:
            await credentials.delete(session, PREVIOUS_SECRET)

    async def _change_secret(self, *, keep: bool) -> list[str]:
        """`keep` one that another process has made meanwhile. All that are accepted now."""
        async with self.db.begin() as session:
            current = self._opened(await credentials.lock(session, EVENTSUB_SECRET))
            kept = current if keep else ""
            fresh = self._fixed_secret or kept or secrets.token_hex(SECRET_BYTES)
            if fresh != current:
                await self._write(session, EVENTSUB_SECRET, fresh)
                if current:
                    await self._write(session, PREVIOUS_SECRET, current)
            previous = self._opened(await credentials.read(session, PREVIOUS_SECRET))
        return [fresh, previous] if previous else [fresh]

    @property
    def _fixed_secret(self) -> str:
        secret = self.settings.eventsub_secret
        return secret.get_secret_value() if secret else ""

    def _opened(self, credential: SealedCredential | None) -> str:
        """Empty when there is none, or none that can be read."""
        if credential is None or not credential.sealed:
            return ""
        try:
            return self.keyring.open(_place(credential.name), credential.sealed)
        except SecretUnreadable as error:
            log.warning("secret lost", extra={"why": error.one_line})
            return ""

    async def _write(self, session: AsyncSession, name: str, secret: str) -> None:
        await credentials.write(session, name, self.keyring.seal(_place(name), secret))


class _Secrets(msgspec.Struct):
    """What is sealed of a token."""

    access: str
    refresh: str = ""


@dataclass(frozen=True)
class TokenStore:
    """The table `credentials` as a `CredentialStore`."""

    db: Database
    keyring: Keyring

    async def read(self, name: str) -> StoredToken | None:
        async with self.db.begin() as session:
            found = await credentials.read(session, name)
        return _token_of(found, self.keyring) if found else None

    @asynccontextmanager
    async def locked(self, name: str) -> AsyncIterator[HeldCredential]:
        async with self.db.begin() as session:
            found = await credentials.lock(session, name)
            token = _token_of(found, self.keyring) if found.sealed else None
            yield HeldCredential(session, self.keyring, name, token)

    async def delete(self, name: str) -> None:
        async with self.db.begin() as session:
            await credentials.delete(session, name)


@dataclass(frozen=True)
class HeldCredential:
    session: AsyncSession
    keyring: Keyring
    name: str
    token: StoredToken | None

    async def write(self, token: StoredToken) -> None:
        text = msgspec.json.encode(_Secrets(token.access, token.refresh)).decode()
        await credentials.write(
            self.session,
            self.name,
            self.keyring.seal(_place(self.name), text),
            about={"login": token.login, "user_id": token.user_id, "scopes": list(token.scopes)},
            expires_at=token.expires_at,
            validated_at=token.validated_at,
        )

    async def mark_invalid(self, problem: str) -> None:
        await credentials.mark_invalid(self.session, self.name, problem)


def _token_of(found: SealedCredential, keyring: Keyring) -> StoredToken:
    """One that cannot be read is there, but not valid."""
    try:
        text = keyring.open(_place(found.name), found.sealed)
    except SecretUnreadable as error:
        return StoredToken("", valid=False, problem=error.one_line)
    kept = msgspec.json.decode(text, type=_Secrets)
    return StoredToken(
        kept.access,
        kept.refresh,
        login=found.about.get("login", ""),
        user_id=found.about.get("user_id", ""),
        scopes=tuple(found.about.get("scopes", ())),
        expires_at=found.expires_at,
        validated_at=found.validated_at,
        valid=found.valid,
        problem=found.about.get("problem", ""),
    )


def _place(name: str) -> str:
    return f"credentials.{name}"
