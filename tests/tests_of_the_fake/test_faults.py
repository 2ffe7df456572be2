"""Each fault does what it says, for its channel alone."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.fake_twitch.client import FakeChannel, FakeTwitch
from tests.tests_of_the_fake.conftest import Join


@pytest.fixture
def channel(fake_twitch: FakeTwitch) -> Iterator[FakeChannel]:
    channel = fake_twitch.channel(speed=0)
    channel.online(backlog=6)
    yield channel
    fake_twitch.clear_faults()


@pytest.fixture(scope="module")
def plain(fake_twitch: FakeTwitch) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fake_twitch.plain, trust_env=False, timeout=10) as client:
        yield client


def segment_urls(plain: httpx.Client, channel: FakeChannel) -> list[str]:
    lines = plain.get(channel.hls_url).text.splitlines()
    return [line for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("status", [404, 410, 500, 503])
def test_a_playlist_that_fails(plain: httpx.Client, channel: FakeChannel, status: int) -> None:
    channel.fault("playlist", "status", status=status, count=1)
    assert plain.get(channel.hls_url).status_code == status
    assert plain.get(channel.hls_url).status_code == 200


def test_a_playlist_that_is_a_page(plain: httpx.Client, channel: FakeChannel) -> None:
    channel.fault("playlist", "html")
    assert plain.get(channel.hls_url).text.startswith("<!DOCTYPE html>")


def test_a_playlist_that_stands_still(plain: httpx.Client, channel: FakeChannel) -> None:
    channel.fault("playlist", "frozen")
    assert len(segment_urls(plain, channel)) == 6
    channel.publish(4)
    assert len(segment_urls(plain, channel)) == 6


def test_a_playlist_that_loops(plain: httpx.Client, channel: FakeChannel) -> None:
    channel.fault("playlist", "loop", segments=3)
    before = segment_urls(plain, channel)
    channel.publish(4)
    assert segment_urls(plain, channel) == [*before, *before[3:], before[3]]


def test_faults_of_one_channel_leave_others_alone(
    plain: httpx.Client, channel: FakeChannel, fake_twitch: FakeTwitch
) -> None:
    other = fake_twitch.channel(speed=0)
    other.online()
    channel.fault("any", "status", status=500)
    assert plain.get(channel.hls_url).status_code == 500
    assert plain.get(other.hls_url).status_code == 200


def test_one_segment_that_is_missing(plain: httpx.Client, channel: FakeChannel) -> None:
    channel.fault("segment", "status", numbers=[2])
    statuses = [plain.get(url).status_code for url in segment_urls(plain, channel)]
    assert statuses == [200, 200, 404, 200, 200, 200]


def test_a_segment_that_is_cut(plain: httpx.Client, channel: FakeChannel) -> None:
    channel.fault("segment", "truncated", fraction=0.25, count=1)
    url = segment_urls(plain, channel)[0]
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        plain.get(url)
    assert plain.get(url).content == channel.raw(0)


def test_a_segment_that_is_damaged(plain: httpx.Client, channel: FakeChannel) -> None:
    channel.fault("segment", "corrupt")
    damaged = plain.get(segment_urls(plain, channel)[0]).content
    assert len(damaged) == len(channel.raw(0))
    assert damaged != channel.raw(0)


def test_a_segment_that_is_empty(plain: httpx.Client, channel: FakeChannel) -> None:
    channel.fault("segment", "empty")
    answer = plain.get(segment_urls(plain, channel)[0])
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_segment_that_trickles(plain: httpx.Client, channel: FakeChannel) -> None:
    channel.fault("segment", "trickle", seconds=0.4)
    with plain.stream("GET", segment_urls(plain, channel)[0]) as answer:
        pieces = list(answer.iter_raw())
    assert len(pieces) > 10
    assert b"".join(pieces) == channel.raw(0)


def test_an_answer_that_is_late(plain: httpx.Client, channel: FakeChannel) -> None:
    channel.fault("segment", "slow", seconds=0.5, count=1)
    url = segment_urls(plain, channel)[0]
    with pytest.raises(httpx.ReadTimeout):
        plain.get(url, timeout=0.1)
    assert plain.get(url).content == channel.raw(0)


@pytest.mark.parametrize("kind", ["hang", "reset"])
def test_no_answer_at_all(plain: httpx.Client, channel: FakeChannel, kind: str) -> None:
    channel.fault("playlist", kind, seconds=0.1)
    with pytest.raises(httpx.TransportError):
        plain.get(channel.hls_url)


def test_a_fault_ends_by_time(plain: httpx.Client, channel: FakeChannel) -> None:
    channel.fault("playlist", "status", duration_s=0.01)
    channel.segments  # noqa: B018  # a request takes longer than that
    while plain.get(channel.hls_url).status_code != 200:
        pass


@pytest.mark.parametrize("target", ["gql", "usher"])
def test_services_behind_tls(
    viewer: httpx.Client, channel: FakeChannel, join: Join, target: str
) -> None:
    channel.fault(target, "status", status=503, body="[]", count=1)
    with pytest.raises((httpx.HTTPStatusError, ValueError, TypeError)):
        join(channel)
    assert viewer.get(join(channel)).status_code == 200


def test_a_fault_that_does_not_exist_is_refused(channel: FakeChannel) -> None:
    with pytest.raises(ValueError, match="kind one of"):
        channel.fault("playlist", "explode")
    with pytest.raises(ValueError, match="colour"):
        channel.fault("playlist", "html", colour="red")
