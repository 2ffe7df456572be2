from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from streamvault.contracts import CaptureEnd, ProxyPolicy
from streamvault.hls.capture import Capture
from streamvault.hls.captures import Captures
from streamvault.hls.order import CaptureOrder, Surroundings
from streamvault.playback.proxies import Proxy, ProxyPool
from streamvault.source import Playback, Wish
from tests.proxies import Relay, socks5_to
from tests.streamvault.hls.hls_origin import Origin
from tests.streamvault.hls.recording import (
    QUICK,
    TWITCH,
    Recorder,
    Source,
    finish,
    gaps,
    no_reader,
    part_bytes,
    publish_slowly,
    stored,
    until,
)


@dataclass
class Proxied:
    """A source that is asked by the ways of a pool of two proxies."""

    source: Source
    pool: ProxyPool
    relays: tuple[Relay, Relay]

    async def resolve(self, wish: Wish) -> Playback:
        playback = await self.source.resolve(wish)
        proxy = self.pool.routes(wish)[0]
        if proxy is None:
            return playback
        return replace(playback, proxy=proxy.url, proxy_id=proxy.id)

    def start(self, recorder: Recorder, policy: str) -> Capture:
        around = recorder.around(self.source)
        around = Surroundings(
            self.resolve, no_reader, recorder.fetcher, recorder.disks,
            # A slow way is noticed late on a busy machine; that is no end.
            replace(around.thresholds, silence_s=60.0), 0, routes=self.pool,
        )  # fmt: skip
        return recorder.start(self.source, around, proxy_policy=policy)


@pytest.fixture
def proxied(origin: Origin, recorder: Recorder) -> Iterator[Proxied]:
    with ExitStack() as stack:
        relays = (
            stack.enter_context(socks5_to(origin.port)),
            stack.enter_context(socks5_to(origin.port)),
        )
        known = [Proxy(str(n), f"socks5h://u:pw@127.0.0.1:{r.port}") for n, r in enumerate(relays)]
        yield Proxied(recorder.source(), ProxyPool(lambda: known), relays)


@pytest.mark.parametrize("how", ["dead", "slow", "slow-media"])
async def test_a_proxy_that_dies_is_replaced_without_a_loss(
    recorder: Recorder, proxied: Proxied, how: str
) -> None:
    channel = proxied.source.channel
    channel.publish(4)
    capture = proxied.start(recorder, ProxyPolicy.PROXY_ONLY)
    await stored(capture, 4)
    first, second = proxied.relays
    assert second.connections == 0
    first.become(how)
    await publish_slowly(channel, 4)
    await stored(capture, 8)
    assert second.connections > 0
    assert proxied.pool.trouble_with("0")
    finish(proxied.source)
    assert (await capture.task).end is CaptureEnd.ENDED
    assert b"".join(part_bytes(recorder.folder)) == b"".join(channel.bodies())
    assert gaps(recorder.folder) == []


async def test_under_proxy_only_nothing_goes_direct_while_all_are_dead(
    recorder: Recorder, proxied: Proxied, origin: Origin
) -> None:
    channel = proxied.source.channel
    channel.publish(3)
    capture = proxied.start(recorder, ProxyPolicy.PROXY_ONLY)
    await stored(capture, 3)
    for relay in proxied.relays:
        relay.become("dead")
    await until(lambda: bool(proxied.pool.trouble_with("0")))
    channel.requests.clear()
    channel.publish(3)
    await until(lambda: bool(proxied.pool.trouble_with("1")))
    assert channel.requests == []
    proxied.relays[1].become("ok")
    await stored(capture, 6)
    assert gaps(recorder.folder) == []


async def test_under_proxy_first_it_goes_direct_when_all_are_dead(
    recorder: Recorder, proxied: Proxied
) -> None:
    channel = proxied.source.channel
    channel.publish(3)
    capture = proxied.start(recorder, ProxyPolicy.PROXY_FIRST)
    await stored(capture, 3)
    for relay in proxied.relays:
        relay.become("dead")
    channel.publish(3)
    await stored(capture, 6)


async def test_a_hole_behind_a_proxy_is_put_down_to_it(
    recorder: Recorder, proxied: Proxied
) -> None:
    channel = proxied.source.channel
    channel.publish(3)
    capture = proxied.start(recorder, ProxyPolicy.PROXY_ONLY)
    await stored(capture, 3)
    for relay in proxied.relays:
        relay.become("dead")
    await until(lambda: bool(proxied.pool.trouble_with("0")))
    channel.publish(15)
    proxied.relays[1].become("ok")
    await stored(capture, 13)
    (gap,) = gaps(recorder.folder)
    assert (gap.count, gap.cause) == (5, "proxy")


def captures_of(proxied: Proxied, recorder: Recorder, state: Path) -> Captures:
    return Captures(
        state, resolve=proxied.resolve, open_reader=no_reader, fetcher=recorder.fetcher,
        thresholds=QUICK, min_free_bytes=0, routes=proxied.pool,
    )  # fmt: skip


async def test_a_session_is_kept_without_its_proxys_password(
    recorder: Recorder, proxied: Proxied, tmp_path: Path
) -> None:
    proxied.source.channel.publish(3)
    captures = captures_of(proxied, recorder, tmp_path / "state")
    order = CaptureOrder(
        "r1", TWITCH, "best", recorder.folder, 0.3, proxy_policy=ProxyPolicy.PROXY_ONLY
    )
    await stored(await captures.attach(order), 3)
    await captures.drain_all()
    text = (tmp_path / "state" / "r1.json").read_text()
    assert "pw@" not in text
    assert json.loads(text)["playback"]["proxy_id"] == "0"

    # The next process finds the proxy's address by its id, and needs no new session.
    again = captures_of(proxied, recorder, tmp_path / "state")
    (capture,) = await again.resume_all()
    proxied.source.channel.publish(2)
    await stored(capture, 5)
    assert proxied.source.resolves == 1
    assert proxied.relays[1].connections == 0
    await again.drain_all()


async def test_a_direct_session_is_forgotten_once_only_proxies_are_wanted(
    recorder: Recorder, proxied: Proxied, tmp_path: Path
) -> None:
    channel = proxied.source.channel
    channel.publish(3)
    order = CaptureOrder("r1", TWITCH, "best", recorder.folder, 0.3)
    captures = captures_of(proxied, recorder, tmp_path / "state")
    await stored(await captures.attach(order), 3)
    await captures.drain_all()
    assert proxied.relays[0].connections == 0

    channel.requests.clear()
    again = captures_of(proxied, recorder, tmp_path / "state")
    capture = await again.attach(replace(order, proxy_policy=ProxyPolicy.PROXY_ONLY))
    channel.publish(2)
    await stored(capture, 5)
    assert proxied.relays[0].bytes_down > 0
    assert not any(request.startswith("s1/") for request in channel.requests)
    await again.drain_all()
