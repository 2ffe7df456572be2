"""Addresses that people give to the API: what may be recorded from, and what never is asked for.

The check is of the address as given and of what its name resolves to now. Redirects and segment
addresses are the fetcher's to check.
"""

from __future__ import annotations

import asyncio
import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from streamvault.errors import InvalidInput, SourceUnavailable
from streamvault.settings import Settings

Address = IPv4Address | IPv6Address

MAX_LENGTH = 2048
RESOLVE_TIMEOUT_S = 5
HLS = "hls://"
# White space would begin streamlink's own parameters; the others break URLs apart.
_FORBIDDEN = re.compile(r"[\s\x00-\x1f\x7f\\<>\"`{}|^]")
# What inet_aton reads as an address: 127.1, 0x7f.1, 2130706433.
_NUMERIC = re.compile(r"(0x[0-9a-f]*|\d+)(\.(0x[0-9a-f]*|\d+)){0,3}")
_LOCAL_NAMES = re.compile(r"(^|\.)(localhost|local|internal|localdomain|home\.arpa)$")
_NAT64 = ip_network("64:ff9b::/96")
TWITCH_HOSTS = frozenset({"twitch.tv", "www.twitch.tv", "m.twitch.tv"})
LOGIN = re.compile(r"[A-Za-z0-9_]{1,25}")


async def check_source_address(url: str, settings: Settings) -> str:
    """The address, if it is http(s) or `hls://http(s)` and points to the public internet or into
    ALLOWED_NETWORKS.

    With STREAM_PROXY set the proxy resolves names, so only literal addresses are checked.
    Raises InvalidInput, SourceUnavailable when the name does not resolve."""
    host, port = _parse(url)
    literal = _literal(host)
    if literal:
        _require_allowed([literal], host, settings)
    elif _LOCAL_NAMES.search(host) and not settings.allowed_networks:
        raise _refused(host)
    elif not settings.proxy_url:
        _require_allowed(await _resolve(host, port), host, settings)
    return url


async def check_https_address(url: str, settings: Settings) -> None:
    """Whether something may be sent to an address that came from outside.

    Raises InvalidInput, SourceUnavailable when the name does not resolve."""
    if not url.startswith("https://"):
        raise InvalidInput("the address must begin with https://")
    _parse(url)
    await check_host(url, settings)


async def check_host(url: str, settings: Settings) -> None:
    """Whether the host of a checked address, such as a proxy's, may be asked at all.

    Raises InvalidInput, SourceUnavailable when the name does not resolve."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower().rstrip(".")
    literal = _literal(host)
    found = [literal] if literal else await _resolve(host, parts.port or 80)
    _require_allowed(found, host, settings)


def twitch_login(url: str) -> str | None:
    """The login of a channel's own page, or None for any other address."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    login = parts.path.strip("/")
    if parts.netloc.lower() in TWITCH_HOSTS and LOGIN.fullmatch(login):
        return login.lower()
    return None


def is_allowed(address: Address, settings: Settings) -> bool:
    """Public, or in a network that the administrator named."""
    address = _unwrap(address)
    networks = map(ip_network, settings.allowed_networks, [False] * len(settings.allowed_networks))
    if any(address in network for network in networks):
        return True
    return address.is_global and not address.is_multicast


def _parse(url: str) -> tuple[str, int]:
    if len(url) > MAX_LENGTH or _FORBIDDEN.search(url):
        raise InvalidInput("the address holds characters that no address has, or is too long")
    try:
        parts = urlsplit(url.removeprefix(HLS))
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidInput("the address cannot be read") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise InvalidInput(
            "only addresses that begin with https://, http:// or hls://https:// can be recorded"
        )
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("an address with a user name or password is not taken")
    return host.lower().rstrip("."), port or (443 if parts.scheme == "https" else 80)


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        pass
    if not _NUMERIC.fullmatch(host):
        return None
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        raise InvalidInput(f"{host} is neither a name nor an address") from None


async def _resolve(host: str, port: int) -> list[Address]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        raise SourceUnavailable(
            f"the name {host} cannot be resolved", hint="is it spelt right, and is DNS working?"
        ) from None
    return [ip_address(entry[4][0]) for entry in found]


def _require_allowed(addresses: list[Address], host: str, settings: Settings) -> None:
    # Every address, since the fetcher may connect to any of them.
    if not all(is_allowed(address, settings) for address in addresses):
        raise _refused(host)


def _refused(host: str) -> InvalidInput:
    return InvalidInput(
        f"{host} is not on the public internet",
        hint="allow its network with STREAMVAULT_ALLOWED_NETWORKS, for example 192.168.1.0/24",
    )


def _unwrap(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    if address.teredo:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour or address
