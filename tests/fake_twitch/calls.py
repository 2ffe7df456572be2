"""What was asked of the services, and when."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from starlette.requests import HTTPConnection
from starlette.responses import Response

from tests.fake_twitch.faults import Fault
from tests.fake_twitch.tokens import Tokens

REMEMBERED = 500_000


@dataclass
class Call:
    """One request. `status` stays 0 when it was never answered."""

    at: float
    """Epoch seconds of its arrival."""
    group: str
    method: str
    path: str
    query: str
    client_id: str = ""
    token_kind: str = ""
    """`app`, `user`, `browser`; empty without a valid token."""
    login: str = ""
    """Of a user's token."""
    status: int = 0

    def end(self, fault: Fault | None, given: Response) -> Response:
        cut = fault is not None and fault.kind in ("hang", "reset")
        self.status = 0 if cut else given.status_code
        return given

    def about(self, group: str, client_id: str, since: float) -> bool:
        in_group = not group or self.group == group or self.group.startswith(f"{group}.")
        return in_group and client_id in ("", self.client_id) and self.at >= since


@dataclass
class CallLog:
    tokens: Tokens
    calls: deque[Call] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def begin(self, group: str, request: HTTPConnection) -> Call:
        method = request.scope.get("method", "GET")
        call = Call(time.time(), group, method, request.url.path, request.url.query)
        if token := self.tokens.find(request, "bearer", "oauth"):
            call.client_id, call.token_kind = token.client_id, token.kind
            call.login = self.tokens.login(token.user_id)
        self.calls.append(call)
        return call

    def find(self, group: str = "", client_id: str = "", since: float = 0) -> list[Call]:
        return [call for call in self.calls if call.about(group, client_id, since)]
