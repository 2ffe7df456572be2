"""Connecting a Twitch account: by a code that is entered at Twitch, or by way of Twitch's page."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from temporalio.client import Client
from temporalio.service import RPCError

from activities.accounts import SCOPES
from activities.engine import temporal_away
from streamvault.contracts import DETECT_QUEUE, SignInInput, sign_in_workflow_id
from streamvault.db import sign_ins
from streamvault.db.session import Database

if TYPE_CHECKING:
    from activities.twitch_access import TwitchAccess

# Workflows import activities, so its class cannot be imported here.
CONNECT_TWITCH = "ConnectTwitch"
SECRET_BYTES = 32
REDIRECT_LIVES = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class DeviceSignIn:
    """`secret` lets whoever began it ask how it went."""

    secret: str = field(repr=False)
    user_code: str
    verification_uri: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class RedirectSignIn:
    """`url` holds the state, so it is told to nobody but the browser."""

    url: str = field(repr=False)
    cookie: str = field(repr=False)


async def begin_device(client: Client, access: TwitchAccess) -> DeviceSignIn:
    """A workflow waits for the person from now on, whatever happens to this process.

    Raises TwitchUnavailable, TwitchRefused, DependencyUnavailable."""
    code = await access.oauth.begin_device(SCOPES)
    secret = secrets.token_urlsafe(SECRET_BYTES)
    expires_at = datetime.now(UTC) + timedelta(seconds=code.expires_in_s)
    sealed = access.keyring.seal(sign_ins.SEALED_PLACE, code.device_code)
    async with access.db.begin() as session:
        row_id = await sign_ins.begin(
            session, secret, sign_ins.DEVICE, expires_at=expires_at, sealed=sealed
        )
    try:
        await client.start_workflow(
            CONNECT_TWITCH,
            SignInInput(row_id, float(code.interval_s)),
            id=sign_in_workflow_id(row_id),
            task_queue=DETECT_QUEUE,
            static_summary="connect a Twitch account",
        )
    except RPCError as error:
        async with access.db.begin() as session:
            await sign_ins.settle(session, row_id, sign_ins.FAILED, "nobody could wait for it")
        raise temporal_away(error) from None
    return DeviceSignIn(secret, code.user_code, code.verification_uri, expires_at)


async def begin_redirect(access: TwitchAccess, redirect_uri: str) -> RedirectSignIn:
    """Raises DependencyUnavailable."""
    state, cookie = (secrets.token_urlsafe(SECRET_BYTES) for _ in range(2))
    async with access.db.begin() as session:
        await sign_ins.begin(
            session,
            state,
            sign_ins.CODE,
            expires_at=datetime.now(UTC) + REDIRECT_LIVES,
            about={"browser": sign_ins.id_of(cookie)},
        )
    return RedirectSignIn(access.oauth.authorize_url(state, redirect_uri, SCOPES), cookie)


async def claim_redirect(db: Database, state: str, cookie: str) -> bool:
    """Whether this browser began the sign-in with that state, now and for the first time.

    Raises DependencyUnavailable."""
    async with db.begin() as session:
        row = await sign_ins.take(session, state, sign_ins.CODE)
    return row is not None and hmac.compare_digest(
        str(row.about.get("browser", "")), sign_ins.id_of(cookie)
    )


async def finish_redirect(access: TwitchAccess, code: str, redirect_uri: str) -> None:
    """Raises TwitchRefused for a code that is not, or no longer, good; TwitchUnavailable,
    DependencyUnavailable."""
    tokens = await access.oauth.redeem(code, redirect_uri)
    who = await access.oauth.validate(tokens.access)
    await access.tokens.connect_user(tokens, who)
