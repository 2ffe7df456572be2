from __future__ import annotations

from ipaddress import ip_address

import pytest

from api.addresses import check_source_address, is_allowed, twitch_login
from streamvault.errors import InvalidInput, SourceUnavailable
from streamvault.settings import Settings, check_settings

PRIVATE = [
    "127.0.0.1",
    "127.1",
    "0",
    "0.0.0.0",
    "2130706433",
    "0x7f.1",
    "0x7f000001",
    "0177.0.0.1",
    "10.0.0.1",
    "172.16.3.4",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a00:1]",
    "[fe80::1]",
    "[fd00::1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[ff02::1]",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "app.localhost",
    "printer.local",
    "metadata.google.internal",
]


def settings(**more: object) -> Settings:
    return check_settings(more)


@pytest.mark.parametrize("host", PRIVATE)
@pytest.mark.parametrize("proxy", [None, "http://proxy.example:3128"])
async def test_addresses_inside_are_refused(host: str, proxy: str | None) -> None:
    for scheme in ("https://", "http://", "hls://https://", "hls://http://"):
        with pytest.raises(InvalidInput):
            await check_source_address(
                f"{scheme}{host}:8080/live.m3u8", settings(stream_proxy=proxy)
            )


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "hls://file:///etc/passwd.m3u8",
        "httpstream://file:///etc/passwd",
        "httpstream://https://8.8.8.8/x",
        "hlsvariant://https://8.8.8.8/x",
        "hls://hls://https://8.8.8.8/x",
        "hls://8.8.8.8/x",
        "gopher://8.8.8.8/",
        "dict://8.8.8.8/",
        "ftp://8.8.8.8/x",
        "/etc/passwd",
        "-rf",
        "--player=sh",
        "@/etc/passwd",
        "twitch.tv/name",
        "https://",
        "https:///path",
        "https://a@8.8.8.8/",
        "https://a:b@8.8.8.8/",
        "https://8.8.8.8@127.0.0.1/",
        "https://8.8.8.8/x.m3u8 http-proxy=http://127.0.0.1",
        "https://8.8.8.8/\nx",
        "https://8.8.8.8\\@127.0.0.1/",
        "https://[::1/",
        "https://8.8.8.8:99999/",
        "https://999.1.1.1/",
        "https://8.8.8.8/" + "x" * 2048,
        "",
    ],
)
async def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        await check_source_address(url, settings())


@pytest.mark.parametrize(
    "url", ["https://8.8.8.8/a.m3u8?x=1&y=2", "hls://http://[2606:4700::1111]:81/live"]
)
async def test_public_addresses_are_taken_as_they_are(url: str) -> None:
    assert await check_source_address(url, settings()) == url


async def test_a_named_network_is_allowed_and_no_other() -> None:
    lan = settings(allowed_networks="192.168.7.0/24,fd00:7::/64")
    assert await check_source_address("http://192.168.7.9/a", lan)
    assert await check_source_address("http://[fd00:7::9]/a", lan)
    assert await check_source_address("http://[::ffff:192.168.7.9]/a", lan)
    for other in ("http://192.168.8.9/a", "http://127.0.0.1/a", "http://[fd00:8::9]/a"):
        with pytest.raises(InvalidInput):
            await check_source_address(other, lan)


async def test_a_name_is_judged_by_what_it_resolves_to() -> None:
    loopback = settings(allowed_networks="127.0.0.0/8,::1/128")
    assert await check_source_address("http://localhost:1/a", loopback)
    with pytest.raises(InvalidInput, match="localhost"):
        await check_source_address("http://localhost:1/a", settings(allowed_networks="10.0.0.0/8"))


async def test_a_name_that_does_not_resolve_is_said_so() -> None:
    with pytest.raises(SourceUnavailable, match=r"no\.such\.name\.invalid"):
        await check_source_address("https://no.such.name.invalid/", settings())


async def test_behind_a_proxy_names_are_the_proxys_to_resolve() -> None:
    proxied = settings(stream_proxy="http://proxy.example:3128")
    assert await check_source_address("https://no.such.name.invalid/", proxied)


def test_an_address_inside_another_is_judged_itself() -> None:
    assert not is_allowed(ip_address("2001:0:7f00:1::80ff:fffe"), settings())
    assert is_allowed(ip_address("::ffff:8.8.8.8"), settings())
    assert is_allowed(ip_address("64:ff9b::808:808"), settings())


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("https://www.twitch.tv/Some_Name", "some_name"),
        ("https://twitch.tv/name/", "name"),
        ("https://m.twitch.tv/name?x=1", "name"),
        ("https://www.twitch.tv/videos/123", None),
        ("https://www.twitch.tv/", None),
        ("https://www.twitch.tv.evil.example/name", None),
        ("https://www.twitch.tv/-rf", None),
    ],
)
def test_a_channels_page_gives_its_login(url: str, login: str | None) -> None:
    assert twitch_login(url) == login
