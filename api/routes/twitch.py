"""The connection with Twitch: its state, the account, the browser token."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.responses import RedirectResponse

from activities import sign_in
from api.deps import Deps, Shared
from api.problems import Problem
from api.schemas_twitch import (
    BrowserTokenStored,
    Circuits,
    DeviceStarted,
    DeviceState,
    NewBrowserToken,
    PollState,
    RateLimit,
    TokenState,
    TransportState,
    TwitchStatus,
    circuits_of,
)
from streamvault.db import credentials, facts, health, sign_ins
from streamvault.errors import (
    InvalidInput,
    NotFound,
    TokenInvalid,
    TwitchError,
    TwitchNotConfigured,
    TwitchRefused,
    TwitchUnavailable,
)
from streamvault.settings import PREFIX, Settings

if TYPE_CHECKING:
    from activities.twitch_access import TwitchAccess

log = logging.getLogger(__name__)

router = APIRouter(prefix="/api/twitch", tags=["twitch"])

LOGIN, CALLBACK = "/api/twitch/login", "/api/twitch/callback"
COOKIE = "sv_twitch_sign_in"
LOGIN_AGAIN = {"label": "Sign in again", "method": "GET", "href": LOGIN}

Word = Annotated[str, Query(max_length=512)]
SignInSecret = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{20,64}$")]


@router.get("/status")
async def status(deps: Deps) -> TwitchStatus:
    async with deps.db.begin() as session:
        stored = await credentials.describe_all(session)
        known = await facts.all_facts(session)
        last_message_at = await health.last_message_at(session)
    transport, poll = known.get(facts.EVENTSUB), known.get(facts.POLL)
    circuits, limits = known.get(facts.CIRCUITS), known.get(facts.RATELIMIT)
    return TwitchStatus(
        configured=deps.twitch_door.configured,
        can_redirect=_has_secret(deps.settings),
        app_token=TokenState.of(stored.get("app_token")),
        account=TokenState.of(stored.get("user_token")),
        browser_token=TokenState.of(stored.get("browser_token")),
        transport=TransportState.of(transport, last_message_at) if transport else None,
        circuits=Circuits(
            worker=circuits_of(circuits.value if circuits else {}),
            api=circuits_of(deps.twitch_door.circuits()),
        ),
        rate_limit={
            name: RateLimit.model_validate(report)
            for name, report in (limits.value if limits else {}).items()
        },
        last_poll=PollState.of(poll) if poll else None,
    )


# ---- by a code that is entered at Twitch


@router.post("/device", status_code=202)
async def begin_device(deps: Deps) -> DeviceStarted:
    """Begin to connect an account: somebody enters `user_code` at `verification_uri`, on any
    device. Needs neither a public address nor a client secret."""
    access, client = await deps.twitch(), await deps.temporal.client()
    begun = await sign_in.begin_device(client, access)
    return DeviceStarted(
        id=begun.secret,
        user_code=begun.user_code,
        verification_uri=begun.verification_uri,
        expires_at=begun.expires_at,
    )


@router.get("/device/{sign_in_id}")
async def device(sign_in_id: SignInSecret, deps: Deps) -> DeviceState:
    async with deps.db.begin() as session:
        row = await sign_ins.find(session, sign_ins.id_of(sign_in_id))
    if row is None or row.kind != sign_ins.DEVICE:
        raise NotFound("there is no such sign-in", hint="begin a new one")
    return DeviceState.of(row, datetime.now(UTC))


# ---- by way of Twitch's page


@router.get("/login", response_class=Response, responses={302: {}})
async def login(deps: Deps, request: Request, moved: bool = False) -> Response:
    """Send the browser to Twitch, which asks for consent and sends it back to the callback."""
    access = await deps.twitch()
    if not _has_secret(deps.settings):
        raise TwitchNotConfigured(
            "Twitch's application has no client secret",
            hint=f"set {PREFIX}TWITCH_CLIENT_SECRET, or connect by a code",
        )
    origin = _origin(deps.settings)
    if request.url.netloc != urlsplit(origin).netloc and not moved:
        # The cookie must be there under the name to which Twitch sends the browser back.
        return RedirectResponse(f"{origin}{LOGIN}?moved=true", 302)
    begun = await sign_in.begin_redirect(access, f"{origin}{CALLBACK}")
    answer = RedirectResponse(begun.url, 302)
    https = origin.startswith("https:")
    answer.set_cookie(
        _cookie_name(https),
        begun.cookie,
        max_age=int(sign_in.REDIRECT_LIVES.total_seconds()),
        path="/",
        secure=https,
        httponly=True,
        samesite="lax",
    )
    return answer


@router.get("/callback", response_class=Response, responses={302: {}})
async def callback(
    deps: Deps, request: Request, state: Word = "", code: Word = "", error: Word = ""
) -> Response:
    """Where Twitch sends the browser back to."""
    origin = _origin(deps.settings)
    name = _cookie_name(origin.startswith("https:"))
    if not await sign_in.claim_redirect(deps.db, state, request.cookies.get(name, "")):
        answer: Response = _refused(request, "this browser has begun no such sign-in lately")
    elif error or not code:
        answer = _refused(request, "access was refused at Twitch")
    else:
        try:
            await sign_in.finish_redirect(await deps.twitch(), code, f"{origin}{CALLBACK}")
        except TwitchRefused as refusal:
            answer = _refused(request, str(refusal))
        else:
            answer = RedirectResponse("/", 302)
    answer.delete_cookie(name, path="/", secure=origin.startswith("https:"), httponly=True)
    return answer


@router.delete("/account", status_code=204)
async def forget_account(deps: Deps) -> None:
    """Forget the account, and ask Twitch to do the same with its token. Recordings go on."""
    async with _access(deps) as access:
        try:
            token = await access.tokens.user()
        except TwitchError:
            # None is there, or none that is worth revoking.
            token = ""
        await access.tokens.forget("user_token")
        if token:
            await _revoke(access, token)


# ---- the browser token


@router.put("/browser-token")
async def set_browser_token(body: NewBrowserToken, deps: Deps) -> BrowserTokenStored:
    """Keep the token of a browser's session at Twitch, for what only its account may play."""
    token = _bare(body.token.get_secret_value())
    async with _access(deps) as access:
        try:
            who = await access.oauth.validate(token)
        except TokenInvalid:
            raise InvalidInput(
                "Twitch does not take this token",
                hint="copy the value of the cookie auth-token of a signed-in browser",
            ) from None
        except TwitchUnavailable as error:
            await access.tokens.keep_browser_token(token, None)
            note = f"stored without a check: {error}"
        else:
            await access.tokens.keep_browser_token(token, who)
            note = ""
    async with deps.db.begin() as session:
        row = await credentials.read(session, "browser_token")
    return BrowserTokenStored(note=note, **TokenState.of(row).model_dump())


@router.delete("/browser-token", status_code=204)
async def forget_browser_token(deps: Deps) -> None:
    async with _access(deps) as access:
        await access.tokens.forget("browser_token")


async def _revoke(access: TwitchAccess, token: str) -> None:
    try:
        await access.oauth.revoke(token)
    except TwitchError as error:
        # It ends by itself within hours, and nobody has it any more.
        log.warning("token not revoked at Twitch", extra={"why": error.one_line})


@asynccontextmanager
async def _access(deps: Shared) -> AsyncIterator[TwitchAccess]:
    """Also without an application of ours: the browser token belongs to Twitch's own site."""
    if deps.twitch_door.configured:
        yield await deps.twitch()
        return
    from activities.twitch_access import TwitchAccess  # noqa: PLC0415  # see api/twitch.py

    access = TwitchAccess.open(deps.settings, deps.db, deps.metrics)
    try:
        yield access
    finally:
        await access.close()


def _origin(settings: Settings) -> str:
    """Never taken from the Host header. Twitch allows plain http for localhost alone."""
    return settings.base_url or f"http://localhost:{settings.port}"


def _has_secret(settings: Settings) -> bool:
    return bool(settings.twitch_client_id and settings.twitch_client_secret)


def _cookie_name(https: bool) -> str:
    """With the prefix no other host of the same domain can put a cookie of its own there."""
    return f"__Host-{COOKIE}" if https else COOKIE


def _refused(request: Request, detail: str) -> Problem:
    return Problem(
        403,
        "The account is not connected",
        detail,
        hint="begin again",
        action=LOGIN_AGAIN,
        scope=request.scope,
    )


def _bare(token: str) -> str:
    """As people paste it: with the scheme or the cookie's name before it, or quoted."""
    text = token.strip().strip("\"'")
    for before in ("auth-token=", "oauth:", "OAuth "):
        text = text.removeprefix(before)
    return text.strip().strip(";")
