"""Control routes of Helix and id (`/ctl/…`): knobs, log, applications, tokens and follows."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fake_twitch.control_requests import Body, control, done, read_body
from tests.fake_twitch.faults import Refused
from tests.fake_twitch.services import Services
from tests.fake_twitch.tokens import CLIENT_ID


@dataclass
class ServicesControl:
    services: Services

    def routes(self) -> list[Route]:
        return [
            control("/ctl/reset", self.reset, "POST"),
            control("/ctl/knobs", self.knobs, "GET"),
            control("/ctl/knobs", self.set_knobs, "PUT"),
            control("/ctl/calls", self.calls),
            control("/ctl/calls", self.forget_calls, "DELETE"),
            control("/ctl/applications", self.register, "POST"),
            control("/ctl/tokens", self.tokens),
            control("/ctl/tokens", self.drop_tokens, "DELETE"),
            control("/ctl/tokens/{action}", self.act_on_tokens, "POST"),
            control("/ctl/codes", self.codes),
            control("/ctl/codes/{user_code}/{action}", self.act_on_code, "POST"),
            control("/ctl/buckets", self.drain, "PUT"),
            control("/ctl/follows/{login}", self.follow, "PUT"),
            control("/ctl/follows/{login}", self.unfollow, "DELETE"),
        ]

    async def reset(self, _: Request) -> Response:
        await self.services.reset()
        return done()

    async def knobs(self, _: Request) -> Response:
        return JSONResponse(asdict(self.services.knobs))

    async def set_knobs(self, request: Request) -> Response:
        """Answers what they were before."""
        before = asdict(self.services.knobs)
        changes = await read_body(request)
        self.services.knobs.change(changes)
        return JSONResponse({name: before[name] for name in changes})

    async def calls(self, request: Request) -> Response:
        query = request.query_params
        found = self.services.calls.find(
            query.get("group", ""), query.get("client_id", ""), float(query.get("since", "0"))
        )
        return JSONResponse([vars(call) for call in found])

    async def forget_calls(self, _: Request) -> Response:
        self.services.calls.calls.clear()
        return done()

    async def register(self, request: Request) -> Response:
        application = self.services.tokens.register(**await read_body(request))
        return JSONResponse(asdict(application), 201)

    async def tokens(self, _: Request) -> Response:
        tokens = self.services.tokens
        return JSONResponse(
            [
                {
                    "kind": token.kind,
                    "client_id": token.client_id,
                    "login": tokens.login(token.user_id),
                    "valid": token.left_s > 0,
                }
                for token in tokens.access.values()
            ]
        )

    async def drop_tokens(self, request: Request) -> Response:
        """Those of the application itself; of every one if none is named."""
        client_id = request.query_params.get("client_id", "")
        tokens = self.services.tokens
        for each in [client_id] if client_id else list(tokens.applications):
            tokens.revoke(each, "")
        return done()

    async def act_on_tokens(self, request: Request) -> Response:
        body, action = await read_body(request), request.path_params["action"]
        actions = {
            "sign_in": self._sign_in,
            "browser": self._browser,
            "expire": self._expire,
            "revoke_refreshes": self._revoke_refreshes,
            "disconnect": self._disconnect,
            "authorise": self._authorise,
            "unauthorise": self._unauthorise,
        }
        if action not in actions:
            raise Refused(f"actions are {sorted(actions)}")
        return JSONResponse(actions[action](body))

    def _sign_in(self, body: Body) -> Body:
        login, client_id = body["login"], self._client_id(body)
        token, refresh = self.services.tokens.sign_in(client_id, login, body["scopes"])
        return {
            "access_token": token.value,
            "refresh_token": refresh.value,
            "user_id": token.user_id,
            "login": login,
            "scopes": token.scopes,
        }

    def _browser(self, body: Body) -> Body:
        token = self.services.tokens.mint_browser(body["login"], body["expires_in_s"])
        return {"access_token": token.value}

    def _expire(self, body: Body) -> Body:
        self.services.tokens.expire(self._client_id(body), self._user_id(body))
        return {}

    def _revoke_refreshes(self, body: Body) -> Body:
        self.services.tokens.revoke_refreshes(self._user_id(body))
        return {}

    def _disconnect(self, body: Body) -> Body:
        client_id, user_id = self._client_id(body), self._user_id(body)
        tokens = self.services.tokens
        tokens.revoke(client_id, user_id)
        tokens.revoke_refreshes(user_id, client_id)
        tokens.grants.discard((client_id, user_id))
        self.services.eventsub.disconnect(client_id, user_id)
        return {}

    def _authorise(self, body: Body) -> Body:
        self.services.tokens.grants.add((self._client_id(body), self._user_id(body)))
        return {}

    def _unauthorise(self, body: Body) -> Body:
        self.services.tokens.grants.discard((self._client_id(body), self._user_id(body)))
        return {}

    async def codes(self, request: Request) -> Response:
        wanted = request.query_params.get("client_id", "")
        return JSONResponse(
            [
                device.user_code
                for device in self.services.sign_ins.devices.values()
                if device.state == "waiting" and wanted in ("", device.client_id)
            ]
        )

    async def act_on_code(self, request: Request) -> Response:
        body, action = await read_body(request), request.path_params["action"]
        device = self.services.sign_ins.by_user_code(request.path_params["user_code"])
        match action:
            case "approve":
                device.state = body["login"]
            case "deny":
                device.state = "denied"
            case "expire":
                device.ends = 0
            case _:
                raise Refused("actions are approve, deny and expire")
        return done()

    async def drain(self, request: Request) -> Response:
        body = await read_body(request)
        owner = self._client_id(body), self._user_id(body)
        self.services.buckets.drain(owner, body["points"])
        return done()

    async def follow(self, request: Request) -> Response:
        follows = self._follows(request)
        for login in (await read_body(request))["logins"]:
            follows.setdefault(self.services.tokens.user(login).user_id, time.time())
        return JSONResponse({"total": len(follows)})

    async def unfollow(self, request: Request) -> Response:
        follows = self._follows(request)
        for login in (await read_body(request))["logins"]:
            follows.pop(self.services.tokens.user(login).user_id, None)
        return JSONResponse({"total": len(follows)})

    def _follows(self, request: Request) -> dict[str, float]:
        user = self.services.tokens.user(request.path_params["login"])
        return self.services.helix.follows.setdefault(user.user_id, {})

    def _client_id(self, body: Body) -> str:
        return self.services.tokens.application(body.get("client_id", CLIENT_ID)).client_id

    def _user_id(self, body: Body) -> str:
        login = body.get("login", "")
        return self.services.tokens.user(login).user_id if login else ""
