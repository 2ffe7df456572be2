from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import httpx
import pytest

from streamvault.errors import (
    CircuitOpen,
    RateLimited,
    TokenInvalid,
    TwitchError,
    TwitchRefused,
    TwitchUnavailable,
)
from streamvault.twitch.tokens import APP, StoredToken
from tests.streamvault.twitch.twitch_api import Api, Twitch, api, said

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
TOTAL_S = 0.5
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"


@asynccontextmanager
async def raw_server(serve: Serve) -> AsyncIterator[str]:
    """A server that does with each connection what a proper one would not."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/helix"


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def slow_loris(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD)
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def truncated(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b'{"data": [')
    await writer.drain()


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def not_http(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x00\xff SSH-2.0\r\n\r\n")
    await writer.drain()


async def endless_body(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD.replace(b"1000", b"99999999"))
    while True:
        writer.write(b" " * 65536)
        await writer.drain()


@pytest.mark.parametrize("serve", [hang, slow_loris, truncated, reset, not_http, endless_body])
async def test_whatever_a_connection_does_ends_typed_and_in_time(serve: Serve) -> None:
    async with raw_server(serve) as url, signed_in(helix_url=url, total_s=TOTAL_S) as our:
        started = time.monotonic()
        with pytest.raises(TwitchUnavailable) as failure:
            await our.helix.users(ids=["1"])
        # The time limit itself, and room for a busy machine.
        assert time.monotonic() - started < 5 * TOTAL_S
        assert not isinstance(failure.value, (CircuitOpen, RateLimited))
        assert our.breakers.of("helix").report().failures == 1
        assert figure(our, "requests_total", outcome="error") == 1


@asynccontextmanager
async def signed_in(handler: Any = None, **options: Any) -> AsyncIterator[Api]:
    """With an app token, so that nothing but Helix is asked."""
    async with api(handler, **options) as our:
        our.store.kept[APP] = StoredToken("app-0")
        yield our


def figure(our: Api, name: str, endpoint: str = "helix", **labels: str) -> float | None:
    return our.metrics.registry.get_sample_value(
        f"streamvault_twitch_api_{name}", {"endpoint": endpoint, **labels}
    )


PAGE = "<!DOCTYPE html><html><body>We are down</body></html>"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, html=PAGE),
        httpx.Response(200, content=b""),
        httpx.Response(200, content=b'{"data": [{"id"'),
        httpx.Response(200, content=b"\xff\xfe"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"data": "none"}),
        httpx.Response(200, json={"data": [{"id": 7, "login": "x"}]}),
        httpx.Response(200, json={"data": [{"login": "without an id"}]}),
        httpx.Response(301, headers={"location": "https://elsewhere.test/"}),
        httpx.Response(500, html=PAGE),
        httpx.Response(503, json={"error": "Service Unavailable", "status": 503, "message": ""}),
    ],
)
async def test_nonsense_and_5xx_count_against_the_circuit(answer: httpx.Response) -> None:
    async with signed_in(lambda _: answer) as our:
        with pytest.raises(TwitchUnavailable):
            await our.helix.users(ids=["1"])
        assert our.breakers.of("helix").report().failures == 1


@pytest.mark.parametrize("status", [400, 403, 404, 409, 410, 429])
async def test_a_refusal_never_opens_the_circuit(status: int) -> None:
    clock = Clock()
    async with signed_in(lambda _: said(status, "no"), clock=clock) as our:
        for _ in range(30):
            with pytest.raises(TwitchError):
                await our.helix.users(ids=["1"])
            clock.now += 120
        assert our.breakers.of("helix").state == "closed"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_an_open_circuit_asks_nothing_and_a_half_open_one_once() -> None:
    """F13: what a thousand callers cost a service that is down."""
    clock = Clock()
    waiting: asyncio.Queue[httpx.Request] = asyncio.Queue()
    answer = asyncio.Event()
    down = True

    async def handler(request: httpx.Request) -> httpx.Response:
        waiting.put_nowait(request)
        if down:
            return httpx.Response(503)
        await answer.wait()
        return httpx.Response(200, json={"data": []})

    async with signed_in(handler, clock=clock) as our:

        async def ask() -> str:
            try:
                await our.helix.users(ids=["1"])
            except TwitchUnavailable as error:
                return type(error).__name__
            return "answered"

        first = [await ask() for _ in range(5)]
        assert first == ["TwitchUnavailable"] * 5
        assert waiting.qsize() == 5
        many = await asyncio.gather(*(ask() for _ in range(1_000)))
        assert set(many) == {"CircuitOpen"}
        assert waiting.qsize() == 5
        clock.now += 67
        down = False
        callers = [asyncio.create_task(ask()) for _ in range(1_000)]
        done: set[asyncio.Task[str]] = set()
        while len(done) < 999:
            done, _ = await asyncio.wait(callers, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result() for task in done} == {"CircuitOpen"}
        assert waiting.qsize() == 6
        answer.set()
        assert "answered" in await asyncio.gather(*callers)
        assert our.breakers.of("helix").state == "closed"


async def test_a_caller_that_is_cancelled_leaves_a_probe_to_others() -> None:
    clock = Clock()
    hangs = asyncio.Event()
    asked = asyncio.Event()
    down = True

    async def handler(_: httpx.Request) -> httpx.Response:
        asked.set()
        if down:
            return httpx.Response(500)
        if not hangs.is_set():
            hangs.set()
            await asyncio.Event().wait()
        return httpx.Response(200, json={"data": []})

    async with signed_in(handler, clock=clock) as our:
        for _ in range(5):
            with pytest.raises(TwitchUnavailable):
                await our.helix.users(ids=["1"])
        clock.now, down = 67, False
        asked.clear()
        probe = asyncio.create_task(our.helix.users(ids=["1"]))
        await asked.wait()
        probe.cancel()
        await asyncio.wait([probe])
        clock.now += 67
        assert await our.helix.users(ids=["1"]) == []
        assert figure(our, "requests_total", outcome="error") == 5


async def test_a_hanging_group_does_not_hold_up_another() -> None:
    async def handler(request: httpx.Request) -> httpx.Response:
        if "/eventsub/" in request.url.path:
            await asyncio.Event().wait()
        return httpx.Response(200, json={"data": []})

    async with signed_in(handler, total_s=60) as our:
        stuck = [asyncio.create_task(our.helix.conduits()) for _ in range(50)]
        assert await asyncio.wait_for(our.helix.users(ids=["1"]), 10) == []
        for task in stuck:
            task.cancel()
        await asyncio.wait(stuck)


async def test_a_429_stops_every_caller_until_reset_and_is_not_asked_about_again() -> None:
    """F14."""
    clock = Clock()
    calls = 0

    def handler(_: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        if clock.now < 30:
            now = 1_700_000_000 + int(clock.now)
            return said(
                429,
                "Too Many Requests",
                date=httpx_date(now),
                **{"ratelimit-remaining": "0", "ratelimit-reset": str(1_700_000_030)},
            )
        return httpx.Response(200, json={"data": []})

    async with signed_in(handler, clock=clock) as our:
        with pytest.raises(RateLimited) as refusal:
            await our.helix.users(ids=["1"])
        assert refusal.value.retry_after_s == 30
        for _ in range(29):
            clock.now += 1
            for found in await asyncio.gather(
                *(our.helix.users(ids=["1"]) for _ in range(20)), return_exceptions=True
            ):
                assert isinstance(found, RateLimited)
        assert calls == 1
        clock.now += 1
        assert await our.helix.users(ids=["1"]) == []
        assert figure(our, "requests_total", outcome="rate_limited") == 1


def httpx_date(epoch: int) -> str:
    return formatdate(epoch, usegmt=True)


async def test_a_refused_connection_is_tried_once_more_but_only_if_the_call_may_be_repeated() -> (
    None
):
    tries: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        tries.append(request.method)
        if len(tries) % 2:
            raise httpx.ConnectError("[Errno 111] Connection refused")
        return httpx.Response(200, json={"data": []})

    async with signed_in(handler) as our:
        assert await our.helix.users(ids=["1"]) == []
        assert tries == ["GET", "GET"]
        assert our.breakers.of("helix").report().failures == 0
        with pytest.raises(TwitchUnavailable, match="Connection refused"):
            await our.helix.create_conduit(1)
        assert tries[2:] == ["POST"]


async def test_an_unanswered_read_is_not_tried_again() -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("")

    twitch = Twitch(**{"GET /users": handler})
    async with signed_in(twitch) as our:
        with pytest.raises(TwitchUnavailable):
            await our.helix.users(ids=["1"])
    assert twitch.count("/users") == 1


async def test_a_401_is_answered_with_one_fresh_token_and_never_with_a_loop() -> None:
    twitch = Twitch(**{"GET /users": said(401, "Invalid OAuth token")})
    async with api(twitch) as our:
        with pytest.raises(TokenInvalid) as refusal:
            await our.helix.users(ids=["1"])
        assert refusal.value.status == 401
    assert twitch.count("/users") == 2
    assert twitch.count("/token") == 2


async def test_a_hundred_concurrent_401_cost_at_most_two_tokens() -> None:
    """F16: the token is revoked while it is in use."""
    twitch = Twitch(**{"GET /users": {"data": []}})
    async with api(twitch) as our:
        await our.helix.users(ids=["0"])
        twitch.dead.add("app-1")
        found = await asyncio.gather(*(our.helix.users(ids=[str(n)]) for n in range(100)))
        assert found == [[]] * 100
    assert twitch.made == 2


async def test_the_clock_of_twitch_is_compared_with_ours() -> None:
    ahead = httpx_date(int(time.time()) + 100)
    answer = httpx.Response(200, json={"data": []}, headers={"date": ahead})
    async with signed_in(lambda _: answer) as our:
        assert our.gate.clock_skew_s is None
        await our.helix.users(ids=["1"])
        assert our.gate.clock_skew_s == pytest.approx(100, abs=2)


CANARY = "canary-0123456789abcdef"


@pytest.mark.parametrize(
    "answer",
    [
        said(400, f"your token is {CANARY} and your header Bearer {CANARY}"),
        said(401, f"Bearer {CANARY}"),
        httpx.Response(500, text=CANARY),
        httpx.Response(200, text=f'{{"data": "{CANARY}"}}'),
        said(429, CANARY),
    ],
)
async def test_no_error_and_no_log_line_repeats_a_token(
    answer: httpx.Response, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    twitch = Twitch(**{"GET /users": answer, "POST /token": said(400, f"bad {CANARY}")})
    async with api(twitch, client_secret=CANARY) as our:
        token = StoredToken(CANARY, CANARY)
        our.store.kept[APP] = token
        with pytest.raises(TwitchError) as failure:
            await our.helix.users(ids=["1"])
        error: BaseException | None = failure.value
        while error:
            assert CANARY not in str(error) + repr(error)
            error = error.__cause__
        assert CANARY not in repr((token, our.tokens, our.oauth, our.store))
    assert CANARY not in caplog.text


async def test_no_error_repeats_the_secret_of_a_subscription() -> None:
    transport = {"method": "webhook", "callback": "https://us.test/", "secret": CANARY}
    async with signed_in(lambda _: said(400, f"{CANARY} is too long")) as our:
        with pytest.raises(TwitchRefused, match="is too long") as failure:
            await our.helix.create_subscription("stream.online", "1", {}, transport)
    assert CANARY not in str(failure.value)


async def test_a_token_that_no_header_can_hold_is_not_quoted() -> None:
    async with api(Twitch()) as our:
        for token in ("canary\r\nx: y", "canaryé", "canary token", ""):
            with pytest.raises(TokenInvalid) as failure:
                await our.oauth.validate(token)
            assert "canary" not in str(failure.value)


async def test_the_messages_of_twitch_are_kept_short_and_on_one_line() -> None:
    async with signed_in(lambda _: said(400, "one\ntwo\x1b[31m " + "x" * 5_000)) as our:
        with pytest.raises(TwitchRefused) as failure:
            await our.helix.users(ids=["1"])
    text = str(failure.value)
    assert "one two[31m x" in text
    assert len(text) < 300
