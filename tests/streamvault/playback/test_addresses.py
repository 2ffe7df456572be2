"""What may be recorded, and what must never reach streamlink."""

from __future__ import annotations

import pytest

from streamvault.errors import InvalidInput
from streamvault.playback.addresses import check_url, name_of, site_of


@pytest.mark.parametrize(
    "url",
    [
        "https://www.twitch.tv/somebody",
        "http://127.0.0.1:8000/live/a.m3u8?x=1",
        "hls://https://example.org/a.m3u8",
        "HLS://http://example.org/a",
    ],
)
def test_addresses_that_can_be_recorded(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "file:///etc/passwd",
        "file:///tmp/a.m3u8",
        "hls://file:///etc/passwd",
        "hls://file:///tmp/a.m3u8",
        "hlsvariant://https://example.org/a.m3u8",
        "httpstream://file:///etc/passwd",
        "httpstream://https://example.org/",
        "dash://https://example.org/a.mpd",
        "hls://hls://https://example.org/a.m3u8",
        "/etc/passwd",
        "./a.m3u8",
        "C:\\a.m3u8",
        "https:\\\\example.org\\a.m3u8",
        "-h",
        "--player=/bin/sh",
        "@/etc/passwd",
        "twitch.tv/somebody",
        "https://",
        "https://user@example.org/a.m3u8",
        "https://user:secret@example.org/a.m3u8",
        "https://example.org:99999/a.m3u8",
        "https://[::1/a.m3u8",
        "https://example.org/a.m3u8 verify=False",
        "hls://https://example.org/a.m3u8 proxies={}",
        "https://example.org/a\n.m3u8",
        "https://example.org/\x00",
        "https://example.org/" + "a" * 2048,
        "javascript:alert(1)",
        "ftp://example.org/a.m3u8",
    ],
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_url(url)
    assert "secret" not in caught.value.one_line
    assert "\n" not in caught.value.one_line


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/shows/evening.m3u8?token=1", "evening"),
        ("hls://https://example.org/evening/index.m3u8", "evening"),
        ("https://example.org/live/master.m3u8", "example.org"),
        ("https://example.org/", "example.org"),
    ],
)
def test_a_source_without_a_name_is_called_after_its_address(url: str, name: str) -> None:
    assert name_of(url) == name


def test_a_site_is_named_without_its_query() -> None:
    assert site_of("hls://https://example.org:8443/a/b.m3u8?token=1") == "example.org:8443/a/b.m3u8"
