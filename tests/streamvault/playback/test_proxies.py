"""Which way is taken, and that nothing goes another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import pytest

from streamvault.errors import ProxyUnavailable, SourceUnavailable
from streamvault.playback.proxies import Proxy, ProxyPool
from streamvault.playback.sources import Sources
from streamvault.source import Wish
from tests.fake_twitch.client import FakeChannel, FakeTwitch
from tests.proxies import Relay, relay_to, socks5_to

URL = "https://www.twitch.tv/somebody"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def pool(*proxies: Proxy, policy: str = "proxy-only", clock: Clock | None = None) -> ProxyPool:
    return ProxyPool(lambda: proxies, policy, clock or Clock())


A, B, C = (Proxy(name, f"http://u:secret@{name}.example:3128", name.upper()) for name in "abc")


def ids(pool: ProxyPool, **wish: str) -> list[str]:
    return [proxy.id if proxy else "direct" for proxy in pool.routes(Wish(URL, **wish))]


def test_the_policy_says_which_ways_there_are() -> None:
    assert ids(pool(A, B)) == ["a", "b"]
    assert ids(pool(A, B), proxy_policy="proxy-first") == ["a", "b", "direct"]
    assert ids(pool(A, B), proxy_policy="direct") == ["direct"]
    assert ids(pool(A, policy="direct")) == ["direct"]


def test_a_proxy_for_one_streamer_is_for_no_other() -> None:
    only = Proxy("only", "socks5h://p:1", streamer_id="alice")
    assert ids(pool(only, A), streamer_id="alice") == ["only", "a"]
    assert ids(pool(only, A), streamer_id="bob") == ids(pool(only, A)) == ["a"]


def test_one_that_failed_is_last_in_line_for_longer_and_longer() -> None:
    clock = Clock()
    both = pool(A, B, clock=clock)
    for pause_s in (30, 60, 120, 240, 480, 600, 600):
        both.failed("a", "it does not answer")
        assert ids(both) == ["b", "a"]
        assert both.trouble_with("a") == "it does not answer"
        clock.now += pause_s - 1
        assert ids(both) == ["b", "a"]
        clock.now += 1
        assert ids(both) == ["a", "b"] and both.trouble_with("a") == ""
    both.worked("a")
    both.failed("a", "again")
    clock.now += 30
    assert ids(both) == ["a", "b"]


def test_direct_comes_before_what_failed_only_where_it_is_allowed() -> None:
    both = pool(A, B)
    both.failed("a", "")
    assert ids(both, proxy_policy="proxy-first") == ["b", "direct"]
    both.failed("b", "")
    assert ids(both, proxy_policy="proxy-first") == ["direct"]
    # The only proxy may be back at any moment.
    assert ids(both) == ["a", "b"]


def test_without_a_proxy_nothing_goes_out_under_proxy_only() -> None:
    for known, text in ((None, "not known yet"), ((), "there is no proxy")):
        unknown = ProxyPool(lambda known=known: known, "proxy-only")
        with pytest.raises(SourceUnavailable, match=text):
            unknown.routes(Wish(URL))


def test_no_repr_shows_a_password() -> None:
    assert "secret" not in repr(A) + repr(pool(A).routes(Wish(URL)))


# ---- with streamlink


@pytest.fixture
def relays(fake_twitch: FakeTwitch) -> Iterator[list[Relay]]:
    with ExitStack() as stack:
        yield [stack.enter_context(relay_to(fake_twitch.proxy_url)) for _ in range(2)]


@pytest.fixture
def live(fake_twitch: FakeTwitch) -> Iterator[FakeChannel]:
    channel = fake_twitch.channel(speed=0)
    channel.online()
    yield channel
    fake_twitch.clear_faults()


def sources_by(fake: FakeTwitch, *relays: Relay, policy: str = "proxy-only") -> Sources:
    proxies = [Proxy(str(n), f"http://127.0.0.1:{r.port}", f"P{n}") for n, r in enumerate(relays)]
    return Sources(ca_bundle=fake.ca_bundle, pool=ProxyPool(lambda: proxies, policy))


@pytest.mark.parametrize("mode", ["dead", "407"])
async def test_a_question_takes_the_next_proxy_when_one_fails(
    live: FakeChannel, relays: list[Relay], mode: str
) -> None:
    relays[0].become(mode)
    with closing(sources_by(live.fake, *relays)) as sources:
        playback = await sources.resolve(Wish(live.url))
        assert (playback.proxy_id, playback.proxy) == ("1", f"http://127.0.0.1:{relays[1].port}")
        asked = relays[0].connections
        assert (await sources.resolve(Wish(live.url))).proxy_id == "1"
        # It is not asked again at once.
        assert relays[0].connections == asked > 0


async def test_when_all_fail_the_last_ones_error_says_why(
    live: FakeChannel, relays: list[Relay]
) -> None:
    for relay in relays:
        relay.become("407")
    with closing(sources_by(live.fake, *relays)) as sources:
        with pytest.raises(ProxyUnavailable, match="proxy P1: it refuses the login"):
            await sources.look(Wish(live.url))
        relays[0].become("ok")
        assert (await sources.look(Wish(live.url))).login == live.login


async def test_under_proxy_only_not_a_byte_goes_direct(
    live: FakeChannel, relays: list[Relay]
) -> None:
    """A channel's playlist on the plain port would be reached without any proxy."""
    for relay in relays:
        relay.become("dead")
    with closing(sources_by(live.fake, *relays)) as sources:
        with pytest.raises(ProxyUnavailable):
            await sources.resolve(Wish(live.hls_url))
        direct = Wish(live.hls_url, proxy_policy="proxy-first")
        assert (await sources.resolve(direct)).proxy_id == ""


async def test_socks5(live: FakeChannel) -> None:
    with socks5_to(urlsplit(live.fake.tls).port or 0) as relay:
        proxy = Proxy("s", f"socks5h://127.0.0.1:{relay.port}", "S")
        pool = ProxyPool(lambda: [proxy], "proxy-only")
        with closing(Sources(ca_bundle=live.fake.ca_bundle, pool=pool)) as sources:
            assert (await sources.resolve(Wish(live.url))).proxy_id == "s"
            relay.become("dead")
            with pytest.raises(ProxyUnavailable, match="proxy S"):
                await sources.resolve(Wish(live.url))


async def test_a_handshake_that_is_cut_is_the_proxys_fault_and_no_bad_certificate(
    live: FakeChannel,
) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await reader.read(100)  # of the client's first words
        writer.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy = Proxy("s", f"http://127.0.0.1:{port}", "S")
    pool = ProxyPool(lambda: [proxy], "proxy-only")
    sources = Sources(ca_bundle=live.fake.ca_bundle, pool=pool)
    with closing(sources), pytest.raises(ProxyUnavailable, match="proxy S"):
        await sources.resolve(Wish(live.url))
    server.close()


async def test_an_answer_of_the_source_is_not_the_proxys_fault(
    live: FakeChannel, relays: list[Relay]
) -> None:
    live.fault("usher", "status", status=503)
    with closing(sources_by(live.fake, *relays)) as sources:
        with pytest.raises(SourceUnavailable, match="503"):
            await sources.resolve(Wish(live.url))
        assert relays[1].connections == 0
