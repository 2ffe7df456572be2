"""One HTTP exchange with Twitch: time limits, a largest body, and errors that hold no secrets."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import certifi
import httpx

from streamvault.errors import TwitchUnavailable
from streamvault.settings import PREFIX

CONNECT_S = 5.0
TOTAL_S = 10.0
AGAIN_AFTER_S = (0.1, 0.4)
KEPT_ALIVE = 4
LARGEST_BODY = 4 * 1024 * 1024
IDEMPOTENT = frozenset({"GET", "DELETE"})
SHORTEST_SECRET = 16


def _never(_: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Call:
    """`circuit` is one of `breaker.CIRCUITS`. `is_limit` tells by the answer's message whether
    a 429 is about a limit of something else than the rate bucket."""

    circuit: str
    method: str
    url: str
    params: tuple[tuple[str, str], ...] = ()
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    form: dict[str, str] | None = field(default=None, repr=False)
    json: object = field(default=None, repr=False)
    is_limit: Callable[[str], bool] = field(default=_never, repr=False)

    @property
    def name(self) -> str:
        """Method, host and path, which may stand in an error text; a query may not."""
        parts = urlsplit(self.url)
        return f"{self.method} {parts.hostname}{parts.path}"

    def without_secrets(self, text: str) -> str:
        """What Twitch says about this call, in case it repeats what was sent."""
        sent = (*_texts(self.form), *_texts(self.headers), *_texts(self.json))
        for word in (word for value in sent for word in value.split()):
            if len(word) >= SHORTEST_SECRET:
                text = text.replace(word, "***")
        return text


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """By any spelling of their names."""
    body: bytes = field(repr=False)


def open_http(ca_bundle: Path | None = None) -> httpx.AsyncClient:
    """Trusts the system's authorities, those that come with certifi, and `ca_bundle`."""
    trust = ssl.create_default_context()
    trust.load_verify_locations(certifi.where())
    if ca_bundle:
        trust.load_verify_locations(ca_bundle)
    return httpx.AsyncClient(
        verify=trust,
        trust_env=False,
        timeout=httpx.Timeout(TOTAL_S, connect=CONNECT_S),
        limits=httpx.Limits(max_keepalive_connections=KEPT_ALIVE),
    )


async def exchange(
    http: httpx.AsyncClient, call: Call, *, again: bool, total_s: float = TOTAL_S
) -> Answer:
    """The answer, whatever its status. `again` allows a second try when no connection comes about,
    which needs a call that may be made twice.

    Raises TwitchUnavailable, within `total_s`."""
    try:
        async with asyncio.timeout(total_s):
            try:
                return await _once(http, call)
            except httpx.ConnectError:
                if not again or call.method not in IDEMPOTENT:
                    raise
            await asyncio.sleep(random.uniform(*AGAIN_AFTER_S))
            return await _once(http, call)
    except httpx.ConnectError as error:
        raise _no_connection(call, error) from None
    except httpx.HTTPError as error:
        # Only its name: some of these errors quote the header that they complain about.
        raise TwitchUnavailable(f"{call.name} failed ({type(error).__name__})") from None
    except TimeoutError:
        raise TwitchUnavailable(f"{call.name} is not answered within {total_s:g} s") from None


async def _once(http: httpx.AsyncClient, call: Call) -> Answer:
    request = http.build_request(
        call.method,
        call.url,
        params=list(call.params),
        headers=call.headers,
        data=call.form,
        json=call.json,
    )
    response = await http.send(request, stream=True)
    try:
        return Answer(response.status_code, response.headers, await _body(response, call))
    finally:
        await response.aclose()


async def _body(response: httpx.Response, call: Call) -> bytes:
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > LARGEST_BODY:
            raise TwitchUnavailable(f"{call.name} answers with more than {LARGEST_BODY} bytes")
    return bytes(body)


def _no_connection(call: Call, error: httpx.ConnectError) -> TwitchUnavailable:
    is_distrust = "CERTIFICATE_VERIFY_FAILED" in str(error)
    hint = f"{PREFIX}CA_BUNDLE names further authorities" if is_distrust else ""
    return TwitchUnavailable(f"{call.name}: {error}", hint=hint)
