"""Resolving against the fake Twitch, through its proxy and with its authority."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import httpx
import pytest

from streamvault.errors import (
    AccessRefused,
    InvalidInput,
    ProxyUnavailable,
    SourceUnavailable,
    StreamOffline,
    StreamVaultError,
    UnknownSource,
)
from streamvault.playback.sources import Sources
from streamvault.source import Transport, Wish
from tests.fake_twitch.client import FakeChannel, FakeTwitch
from tests.fake_twitch.tls import make_certificates


@pytest.fixture(scope="module")
def sources(fake_twitch: FakeTwitch) -> Iterator[Sources]:
    sources = Sources(fake_twitch.proxy_url, fake_twitch.ca_bundle)
    yield sources
    sources.close()


@pytest.fixture
def live(fake_twitch: FakeTwitch) -> Iterator[FakeChannel]:
    channel = fake_twitch.channel(title="Hello", category="Chess", speed=0)
    channel.online()
    yield channel
    fake_twitch.clear_faults()


async def test_look_says_who_and_what_is_live(sources: Sources, live: FakeChannel) -> None:
    seen = await sources.look(Wish(live.url.replace(live.login, live.login.upper())))
    assert (seen.platform, seen.login, seen.name) == ("twitch", live.login, live.login.capitalize())
    assert (seen.title, seen.category) == ("Hello", "Chess")
    assert seen.stream_id == live.fake.state()["channels"][live.login]["stream_id"]


async def test_resolve_finds_the_playlist_of_a_session_of_its_own(
    sources: Sources, live: FakeChannel
) -> None:
    first, second = [await sources.resolve(Wish(live.url, "best")) for _ in range(2)]
    assert first.transport is Transport.HLS
    assert (first.variant, first.resolution) == ("180p30", "320x180")
    assert first.codecs == "avc1.4D400D,mp4a.40.2"
    assert first.playlist_url != second.playlist_url
    assert first.proxy == live.fake.proxy_url
    assert first.headers["referer"] == "https://player.twitch.tv"


async def test_resolve_takes_the_asked_quality(sources: Sources, live: FakeChannel) -> None:
    assert (await sources.resolve(Wish(live.url, "120p30"))).variant == "120p30"
    assert (await sources.resolve(Wish(live.url, "AUDIO_ONLY"))).codecs == "mp4a.40.2"
    # streamlink leaves audio out of its synonyms.
    assert (await sources.resolve(Wish(live.url, "worst"))).variant == "120p30"


async def test_a_quality_that_does_not_exist_names_those_that_do(
    sources: Sources, live: FakeChannel
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await sources.resolve(Wish(live.url, "1080p60"))
    assert "best, worst, audio_only, 120p30, 180p30" in caught.value.one_line


async def test_best_is_the_largest_picture_whatever_it_is_called(
    sources: Sources, live: FakeChannel
) -> None:
    live.change(
        variants=[
            {"name": "chunked", "profile": "180p", "source": True},
            {"name": "120p30", "profile": "120p"},
            {"name": "portrait", "profile": "180p", "resolution": "1080x1920", "group": "portrait"},
            {"name": "audio_only", "profile": "audio", "bandwidth_bps": 9_000_000},
        ]
    )
    assert (await sources.resolve(Wish(live.url, "best"))).variant == "chunked"


async def test_best_of_sound_alone_is_the_sound(sources: Sources, live: FakeChannel) -> None:
    live.change(variants=[{"name": "audio_only", "profile": "audio"}])
    assert (await sources.resolve(Wish(live.url, "best"))).variant == "audio_only"


async def test_a_variant_whose_playlist_fails_once_is_not_left_out(
    sources: Sources, live: FakeChannel
) -> None:
    """streamlink asks for each once, and leaves out what does not answer at that moment."""
    live.fault("playlist", "reset", variant="180p30", count=1)
    playback = await sources.resolve(Wish(live.url))
    assert (playback.variant, playback.complete) == ("180p30", True)


async def test_one_that_goes_on_failing_is_told_to_be_missing(
    sources: Sources, live: FakeChannel
) -> None:
    live.fault("playlist", "status", variant="180p30", status=503)
    playback = await sources.resolve(Wish(live.url))
    assert (playback.variant, playback.complete) == ("120p30", False)


@pytest.mark.parametrize("quality", ["best", "nonsense"])
async def test_offline_and_unknown_channels_are_offline(
    sources: Sources, fake_twitch: FakeTwitch, quality: str
) -> None:
    known = fake_twitch.channel()
    for url in (known.url, "https://www.twitch.tv/nobody_of_that_name"):
        with pytest.raises(StreamOffline, match=r"offline: nothing is live at www\.twitch\.tv/"):
            await sources.look(Wish(url))
        with pytest.raises(StreamOffline):
            await sources.resolve(Wish(url, quality))


async def test_plain_playlists(sources: Sources, live: FakeChannel) -> None:
    seen = await sources.look(Wish(live.hls_url))
    assert (seen.platform, seen.name, seen.stream_id) == ("hls", live.login, None)
    media = await sources.resolve(Wish(f"hls://{live.hls_url}", "best"))
    assert (media.playlist_url, media.variant) == (live.hls_url, "live")
    best = await sources.resolve(Wish(live.master_url, "best"))
    assert best.playlist_url == live.master_url.replace("master", "180p30")


async def test_addresses_that_nobody_knows(sources: Sources, fake_twitch: FakeTwitch) -> None:
    with pytest.raises(UnknownSource, match=r"no recorder knows example\.org"):
        await sources.look(Wish("https://example.org/page"))
    with pytest.raises(UnknownSource, match="only live channels"):
        await sources.look(Wish("https://www.twitch.tv/videos/123456"))
    with pytest.raises(StreamOffline, match="404"):
        await sources.look(Wish(f"{fake_twitch.plain}/hls/nothing.m3u8"))
    with pytest.raises(InvalidInput):
        await sources.look(Wish("hls://file:///etc/passwd"))


async def test_a_playlist_that_is_a_page(sources: Sources, live: FakeChannel) -> None:
    live.fault("playlist", "html")
    with pytest.raises(UnknownSource, match="not an HLS playlist"):
        await sources.look(Wish(live.hls_url))
    with pytest.raises(SourceUnavailable):
        await sources.resolve(Wish(live.url))


REFUSAL = '{"error": "Unauthorized", "message": "This channel is for subscribers"}'


@pytest.mark.parametrize(
    ("target", "kind", "fields", "error"),
    [
        ("gql", "status", {"status": 500}, SourceUnavailable),
        ("gql", "html", {}, SourceUnavailable),
        ("gql", "reset", {}, ProxyUnavailable),
        ("gql", "status", {"status": 403, "body": REFUSAL}, AccessRefused),
        ("usher", "status", {"status": 403}, AccessRefused),
        ("usher", "status", {"status": 404}, StreamOffline),
        ("usher", "status", {"status": 503}, SourceUnavailable),
        ("usher", "html", {}, SourceUnavailable),
        ("usher", "reset", {}, ProxyUnavailable),
        ("playlist", "status", {"status": 404}, StreamOffline),
        ("playlist", "status", {"status": 500}, SourceUnavailable),
        ("playlist", "reset", {}, SourceUnavailable),
    ],
)
async def test_what_fails_behind_twitch_is_told_apart(
    sources: Sources,
    live: FakeChannel,
    target: str,
    kind: str,
    fields: dict[str, object],
    error: type[StreamVaultError],
) -> None:
    live.fault(target, kind, **fields)
    with pytest.raises(StreamVaultError) as caught:
        await sources.resolve(Wish(live.url))
    assert type(caught.value) is error
    assert not any(secret in caught.value.one_line for secret in ("token", "sig=", "?", "\n"))


async def test_look_tells_an_outage_from_an_offline_channel(
    sources: Sources, live: FakeChannel
) -> None:
    live.fault("gql", "status", status=502)
    with pytest.raises(SourceUnavailable, match=r"gql\.twitch\.tv answers HTTP 502"):
        await sources.look(Wish(live.url))


async def test_no_error_holds_a_token(sources: Sources, live: FakeChannel) -> None:
    live.fault("usher", "reset")
    with pytest.raises(SourceUnavailable) as caught:
        await sources.resolve(Wish(live.url))
    text = "usher.ttvnw.net cannot be reached through the proxy STREAM_PROXY"
    assert caught.value.one_line == text


async def test_a_proxy_that_refuses(live: FakeChannel) -> None:
    sources = Sources(live.fake.proxy_url, live.fake.ca_bundle)
    with live.fake.proxy(mode="refuse"), pytest.raises(SourceUnavailable, match="proxy"):
        await sources.look(Wish(live.url))
    sources.close()


async def test_connections_that_were_cut_in_between_are_opened_anew(
    sources: Sources, live: FakeChannel
) -> None:
    for _ in range(3):
        assert (await sources.look(Wish(live.url))).login == live.login
        assert live.fake.cut_connections() >= 1
        assert (await sources.resolve(Wish(live.url))).variant


async def test_an_authority_that_is_not_trusted(live: FakeChannel) -> None:
    untrusting = Sources(live.fake.proxy_url)
    with pytest.raises(SourceUnavailable, match="not trusted"):
        await untrusting.look(Wish(live.url))
    untrusting.close()


async def test_a_bundle_adds_to_what_the_system_trusts(
    live: FakeChannel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # OpenSSL takes the system's authorities from here; the bundle holds an unrelated one.
    monkeypatch.setenv("SSL_CERT_FILE", str(live.fake.ca_bundle))
    sources = Sources(live.fake.proxy_url, make_certificates(tmp_path).ca)
    assert (await sources.look(Wish(live.url))).login == live.login
    sources.close()


async def test_the_environment_does_not_decide_whom_to_trust(
    sources: Sources, live: FakeChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent/authorities.pem")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert (await sources.look(Wish(live.url))).login == live.login


async def test_streamlinks_own_reader(sources: Sources, live: FakeChannel) -> None:
    live.offline()
    reader = await asyncio.to_thread(sources.open_reader, Wish(live.hls_url))
    assert await asyncio.to_thread(_read_all, reader) == live.content()


def _read_all(reader: BinaryIO) -> bytes:
    with contextlib.closing(reader):
        return b"".join(iter(lambda: reader.read(65536), b""))


async def test_a_reader_of_nothing(sources: Sources, fake_twitch: FakeTwitch) -> None:
    url = fake_twitch.channel().url
    with pytest.raises(StreamOffline):
        await asyncio.to_thread(sources.open_reader, Wish(url))


async def test_the_resolved_playlist_plays(sources: Sources, live: FakeChannel) -> None:
    playback = await sources.resolve(Wish(live.hls_url))
    async with httpx.AsyncClient(headers=playback.headers, trust_env=False) as client:
        answer = await client.get(playback.playlist_url)
    assert answer.text.count("#EXTINF") == 3


VARIANTS = [
    {"name": "1440p60", "profile": "180p-hevc", "resolution": "2560x1440", "frame_rate": 60},
    {"name": "1080p60", "profile": "180p", "resolution": "1920x1080", "frame_rate": 60},
    {"name": "1080p60_hevc", "profile": "180p-hevc", "resolution": "1920x1080", "frame_rate": 60},
    {"name": "1080p30", "profile": "180p", "resolution": "1920x1080", "frame_rate": 30},
    {"name": "720p60", "profile": "180p", "resolution": "1280x720", "frame_rate": 60},
    {"name": "audio_only", "profile": "audio"},
]


@pytest.mark.parametrize(
    ("quality", "codecs", "variant"),
    [
        ("best", (), "1080p60"),
        ("best", ("h265", "h264"), "1440p60"),
        ("<=1080p", ("h265", "h264"), "1080p60_hevc"),
        ("<=1080p", ("h264", "h265"), "1080p60"),
        ("<=1080p30", (), "1080p30"),
        ("<=900p", (), "720p60"),
        ("480p30, 720p60, best", (), "720p60"),
        ("480p30, audio_only", (), "audio_only"),
    ],
)
async def test_a_quality_by_rule(
    sources: Sources, live: FakeChannel, quality: str, codecs: tuple[str, ...], variant: str
) -> None:
    live.change(variants=VARIANTS)
    assert (await sources.resolve(Wish(live.url, quality, codecs))).variant == variant


@pytest.mark.parametrize(
    ("quality", "variant"),
    [("900p60", "720p60"), ("480p30", "720p60"), ("chunked", "1080p60"), ("<=480p", "720p60")],
)
async def test_a_quality_that_is_gone_in_the_middle_is_replaced_by_the_nearest(
    sources: Sources, live: FakeChannel, quality: str, variant: str
) -> None:
    live.change(variants=VARIANTS)
    with pytest.raises(InvalidInput, match="there is no quality"):
        await sources.resolve(Wish(live.url, quality))
    assert (await sources.resolve(Wish(live.url, quality, settled=True))).variant == variant
