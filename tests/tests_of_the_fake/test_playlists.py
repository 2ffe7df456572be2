"""Playlists, read by streamlink's own parser for Twitch."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest
from streamlink.plugins.twitch import TwitchHLSSegment, TwitchM3U8, TwitchM3U8Parser
from streamlink.stream.hls.m3u8 import parse_m3u8

from tests.fake_twitch.client import FakeChannel, FakeTwitch
from tests.tests_of_the_fake.conftest import Join


@pytest.fixture
def channel(fake_twitch: FakeTwitch) -> FakeChannel:
    """Publishes only when told to."""
    return fake_twitch.channel(speed=0)


def parse(answer: httpx.Response) -> TwitchM3U8:
    answer.raise_for_status()
    return parse_m3u8(answer.text, str(answer.url), parser=TwitchM3U8Parser)


def listed(playlist: TwitchM3U8) -> list[TwitchHLSSegment]:
    return [segment for segment in playlist.segments if not segment.prefetch]


def numbers(playlist: TwitchM3U8) -> list[int]:
    """Which of the channel's segments, by their file names."""
    return [int(segment.uri.rsplit("/", 1)[1].split(".")[0]) for segment in listed(playlist)]


def test_the_window_slides(channel: FakeChannel, viewer: httpx.Client, join: Join) -> None:
    channel.online(backlog=2, window_s=6, segment_s=2, target_s=6)
    url = join(channel)
    assert numbers(parse(viewer.get(url))) == [0, 1]
    channel.publish(5)
    playlist = parse(viewer.get(url))
    assert numbers(playlist) == [4, 5, 6]
    assert playlist.targetduration == 6
    first, second = listed(playlist)[:2]
    assert first.date and second.date
    assert second.date - first.date == timedelta(seconds=2)


def test_numbers_belong_to_a_session_and_dates_to_the_stream(
    channel: FakeChannel, viewer: httpx.Client, join: Join
) -> None:
    channel.online(backlog=5)
    one, other = (parse(viewer.get(join(channel))) for _ in range(2))
    assert listed(one)[0].num != listed(other)[0].num
    assert [s.date for s in listed(one)] == [s.date for s in listed(other)]


def test_prefetch_announces_segments_that_come_later(
    channel: FakeChannel, viewer: httpx.Client, join: Join
) -> None:
    channel.online()
    url = join(channel)
    ahead = [s.uri for s in parse(viewer.get(url)).segments if s.prefetch]
    assert len(ahead) == 2
    early = [viewer.get(uri).content for uri in ahead]
    channel.publish(2)
    assert early == [channel.raw(3), channel.raw(4)]


@pytest.mark.parametrize("mark", ["both", "daterange", "title"])
def test_ads_take_the_place_of_content(
    channel: FakeChannel, viewer: httpx.Client, join: Join, mark: str
) -> None:
    channel.online(backlog=3)
    channel.ad(2, mark)
    channel.publish(4)
    playlist = parse(viewer.get(join(channel)))
    assert [s.ad for s in listed(playlist)] == [False] * 3 + [True] * 2 + [False] * 2
    assert [t.ad for t in channel.truth()] == [s.ad for s in listed(playlist)]
    assert playlist.dateranges_ads or mark == "title"
    text = viewer.get(join(channel)).text
    assert text.count("#EXT-X-DISCONTINUITY\n") == 2


def test_a_preroll_is_seen_by_its_session_alone(
    channel: FakeChannel, viewer: httpx.Client, join: Join
) -> None:
    channel.online(backlog=3)
    url_without = join(channel)
    channel.change(preroll=2)
    url = join(channel)
    channel.publish(3)
    playlist = parse(viewer.get(url))
    assert [s.ad for s in listed(playlist)] == [True, True, False, False]
    assert playlist.media_sequence == 0
    assert not any(s.ad for s in listed(parse(viewer.get(url_without))))
    ad = viewer.get(listed(playlist)[0].uri).content
    assert ad != channel.raw(2)


def test_a_discontinuity_moves_timestamps_and_dates(
    channel: FakeChannel, viewer: httpx.Client, join: Join
) -> None:
    channel.online(backlog=2)
    channel.act("discontinuity", pts_jump_s=500, date_jump_s=4)
    channel.publish(1)
    text = viewer.get(join(channel)).text
    assert text.split("#EXT-X-DISCONTINUITY")[0].count("#EXTINF") == 2
    before, after = channel.truth()[1:]
    assert after.at - before.at == pytest.approx(1 + 4)


def test_an_encoder_that_stalls_leaves_a_hole_in_the_dates(fake_twitch: FakeTwitch) -> None:
    channel = fake_twitch.channel()
    channel.online(backlog=2)
    channel.act("pause")
    stalled = channel.segments
    channel.act("resume")
    channel.await_segments(stalled + 1)
    before, after = channel.truth()[stalled - 1 : stalled + 1]
    assert after.discontinuity
    assert after.at >= before.at + 1


def test_numbers_that_start_over(channel: FakeChannel, viewer: httpx.Client, join: Join) -> None:
    channel.online(backlog=3, window_s=2, sequence_shift=100)
    url = join(channel)
    assert parse(viewer.get(url)).media_sequence == 101
    channel.act("reset_sequence")
    channel.publish(2)
    assert parse(viewer.get(url)).media_sequence == 0


def test_the_end(fake_twitch: FakeTwitch, viewer: httpx.Client, join: Join) -> None:
    channel = fake_twitch.channel(speed=0)
    channel.online()
    url = join(channel)
    assert not parse(viewer.get(url)).is_endlist
    channel.offline()
    assert parse(viewer.get(url)).is_endlist
    channel.online(stream_id="same")
    assert numbers(parse(viewer.get(url))) == [3, 4, 5]
    channel.offline(endlist=False)
    assert viewer.get(url).status_code == 404


def test_a_new_stream_is_not_shown_to_old_sessions(
    channel: FakeChannel, viewer: httpx.Client, join: Join
) -> None:
    first = channel.online()
    url = join(channel)
    channel.offline()
    assert channel.online() != first
    assert viewer.get(url).status_code == 404
    assert numbers(parse(viewer.get(join(channel)))) == [3, 4, 5]


def test_tokens_end(channel: FakeChannel, viewer: httpx.Client, join: Join) -> None:
    channel.online()
    url = join(channel)
    channel.act("expire_sessions")
    assert viewer.get(url).status_code == 403
    assert viewer.get(join(channel)).status_code == 200
    unsigned = viewer.get(f"https://usher.ttvnw.net/api/v2/channel/hls/{channel.login}.m3u8")
    assert unsigned.status_code == 403


def test_dates_of_two_sessions_can_differ_a_little(
    channel: FakeChannel, viewer: httpx.Client, join: Join
) -> None:
    channel.online(pdt_jitter_s=0.06)
    dates = {listed(parse(viewer.get(join(channel))))[0].date for _ in range(3)}
    assert len(dates) == 3


def test_fragmented_mp4(channel: FakeChannel, viewer: httpx.Client, join: Join) -> None:
    variant = {"name": "180p30", "profile": "180p-fmp4", "source": True}
    channel.change(variants=[variant])
    channel.online()
    segment = parse(viewer.get(join(channel))).segments[0]
    assert segment.map
    assert viewer.get(segment.map.uri).content[4:8] == b"ftyp"
    assert viewer.get(segment.uri).content == channel.raw(0)


def test_a_variant_that_changes_its_codec_is_a_discontinuity(
    channel: FakeChannel, viewer: httpx.Client, join: Join
) -> None:
    channel.online(backlog=2)
    channel.change(variants=[{"name": "180p30", "profile": "180p-fmp4", "source": True}])
    channel.publish(1)
    text = viewer.get(join(channel)).text
    assert text.index("1.ts") < text.index("#EXT-X-DISCONTINUITY") < text.index("#EXT-X-MAP")


def test_titles_are_those_of_their_moment(channel: FakeChannel) -> None:
    channel.change(title="First")
    channel.online(backlog=1)
    channel.change(title="Second", category="Chess")
    channel.publish(1)
    assert [(t.title, t.category) for t in channel.truth()] == [
        ("First", "Software and Game Development"),
        ("Second", "Chess"),
    ]
