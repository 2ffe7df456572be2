"""id.twitch.tv: the flows that lead to tokens, and what can be asked about one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.fake_twitch.front import Denied, Front, Handler
from tests.fake_twitch.knobs import Knobs
from tests.fake_twitch.sign_ins import DeviceCode, SignIns
from tests.fake_twitch.tokens import Application, Refresh, Token, Tokens

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
PAGE = "<!DOCTYPE html><title>Log in - Twitch</title><p>Log in to Twitch to continue.</p>"
EARLY_S = 0.25
"""Clocks and networks are not exact, so that much too early is not too fast."""


@dataclass
class Id:
    knobs: Knobs
    tokens: Tokens
    sign_ins: SignIns

    def routes(self, front: Front) -> list[Route]:
        return [
            front.open("/oauth2/token", "auth.token", _plainly(self.token), "POST"),
            front.open("/oauth2/validate", "auth.validate", _plainly(self.validate), "GET"),
            front.open("/oauth2/revoke", "auth.revoke", _plainly(self.revoke), "POST"),
            front.open("/oauth2/device", "auth.device", _plainly(self.device), "POST"),
            front.open("/oauth2/authorize", "auth.authorize", _plainly(self.authorize), "GET"),
        ]

    async def token(self, request: Request) -> Response:
        fields = await _fields(request)
        application = self._application(fields)
        request.state.call.client_id = application.client_id
        match fields.get("grant_type"):
            case "client_credentials":
                _prove(application, fields)
                return _app_answer(self.tokens.mint_app(application.client_id), self.knobs)
            case "refresh_token":
                return self._refresh(application, fields)
            case "authorization_code":
                return self._redeem(application, fields)
            case grant if grant == DEVICE_GRANT:
                return self._poll(application, fields)
        raise Denied(400, "unsupported grant type")

    def _refresh(self, application: Application, fields: Mapping[str, str]) -> Response:
        if not application.public:
            _prove(application, fields)
        known = self.tokens.refreshes.get(fields.get("refresh_token", ""))
        if known is None or known.client_id != application.client_id:
            raise Denied(400, "Invalid refresh token")
        grant = known
        if self.knobs.rotates:
            del self.tokens.refreshes[known.value]
            grant = Refresh("", known.client_id, known.user_id, known.scopes)
        return self._user_answer(*self.tokens.mint_user(grant))

    def _redeem(self, application: Application, fields: Mapping[str, str]) -> Response:
        _prove(application, fields)
        code = self.sign_ins.take_code(fields.get("code", ""))
        if code is None or code.client_id != application.client_id:
            raise Denied(400, "Invalid authorization code")
        if fields.get("redirect_uri") != code.redirect_uri:
            raise Denied(400, "Parameter redirect_uri does not match registered URI")
        signed_in = self.tokens.sign_in(application.client_id, code.login, code.scopes)
        return self._user_answer(*signed_in)

    def _poll(self, application: Application, fields: Mapping[str, str]) -> Response:
        device = self.sign_ins.devices.get(fields.get("device_code", ""))
        if device is None or device.client_id != application.client_id:
            raise Denied(400, "invalid device code")
        self._refuse_poll(device)
        del self.sign_ins.devices[device.value]
        if device.state == "denied":
            raise Denied(400, "access_denied")
        signed_in = self.tokens.sign_in(application.client_id, device.state, device.scopes)
        return self._user_answer(*signed_in)

    def _refuse_poll(self, device: DeviceCode) -> None:
        now = time.time()
        if now >= device.ends:
            raise Denied(400, "invalid device code")
        soon = device.asked_at + self.knobs.device_interval_s - EARLY_S
        device.asked_at, too_fast = now, now < soon
        if too_fast:
            raise Denied(400, "slow_down")
        if device.state == "waiting":
            raise Denied(400, "authorization_pending")

    async def device(self, request: Request) -> Response:
        fields = await _fields(request)
        application = self._application(fields)
        request.state.call.client_id = application.client_id
        scopes = _scopes(fields.get("scopes") or fields.get("scope", ""))
        lives_s = self.knobs.device_expires_s
        device = self.sign_ins.begin_device(application.client_id, scopes, lives_s)
        return JSONResponse(
            {
                "device_code": device.value,
                "expires_in": int(lives_s),
                "interval": int(self.knobs.device_interval_s),
                "user_code": device.user_code,
                "verification_uri": f"https://www.twitch.tv/activate?device-code={device.user_code}",
            }
        )

    async def authorize(self, request: Request) -> Response:
        """What a browser meets: whoever `Knobs.approves` names says yes at once."""
        query = request.query_params
        application = self._application(query)
        redirect_uri = query.get("redirect_uri", "")
        if query.get("response_type") != "code" or not redirect_uri:
            raise Denied(400, "missing or invalid parameters")
        if not self.knobs.approves:
            return HTMLResponse(PAGE)
        given = {"state": query["state"]} if "state" in query else {}
        if self.knobs.approves == "-":
            given |= {
                "error": "access_denied",
                "error_description": "The user denied you access",
            }
        else:
            scopes = _scopes(query.get("scope", ""))
            code = self.sign_ins.begin_code(
                application.client_id, redirect_uri, self.knobs.approves, scopes
            )
            given |= {"code": code.value, "scope": query.get("scope", "")}
        return RedirectResponse(f"{redirect_uri}?{urlencode(given)}", 302)

    async def validate(self, request: Request) -> Response:
        if "authorization" not in request.headers:
            raise Denied(401, "missing authorization token")
        token = self.tokens.find(request, "oauth", "bearer")
        if token is None:
            raise Denied(401, "invalid access token")
        about: dict[str, Any] = {"client_id": token.client_id, "scopes": list(token.scopes)}
        if token.user_id:
            about |= {"login": self.tokens.login(token.user_id), "user_id": token.user_id}
        return JSONResponse({**about, "expires_in": int(token.left_s)})

    async def revoke(self, request: Request) -> Response:
        fields = await _fields(request)
        application = self._application(fields, unknown=404)
        token = self.tokens.access.get(fields.get("token", ""))
        if token is None or token.client_id != application.client_id:
            raise Denied(400, "Invalid token")
        del self.tokens.access[token.value]
        if token.user_id:
            self.tokens.revoke_refreshes(token.user_id, token.client_id)
        return Response()

    def _application(self, fields: Mapping[str, str], *, unknown: int = 400) -> Application:
        if "client_id" not in fields:
            raise Denied(400, "missing client id")
        if fields["client_id"] not in self.tokens.applications:
            raise Denied(unknown, "invalid client")
        return self.tokens.applications[fields["client_id"]]

    def _user_answer(self, token: Token, refresh: Refresh) -> Response:
        return JSONResponse(
            {
                "access_token": token.value,
                "expires_in": round(token.left_s),
                "refresh_token": refresh.value,
                "scope": list(token.scopes),
                "token_type": "bearer",
            }
        )


def _app_answer(token: Token, knobs: Knobs) -> Response:
    lives_s = int(knobs.app_token_s)
    return JSONResponse(
        {"access_token": token.value, "expires_in": lives_s, "token_type": "bearer"}
    )


def _prove(application: Application, fields: Mapping[str, str]) -> None:
    if not fields.get("client_secret"):
        raise Denied(400, "missing client secret")
    if not application.client_secret or fields["client_secret"] != application.client_secret:
        raise Denied(403, "invalid client secret")


async def _fields(request: Request) -> dict[str, str]:
    """Twitch takes them from the query as well as from a form."""
    form = dict(parse_qsl((await request.body()).decode()))
    return {**dict(request.query_params), **form}


def _scopes(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _plainly(handler: Handler) -> Handler:
    """Errors of id have a status and a message, and no more."""

    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except Denied as denied:
            return JSONResponse({"status": denied.status, "message": str(denied)}, denied.status)

    return answered
