"""Avatars and art from Twitch's CDN, and from nowhere else: the addresses come in an answer of
Twitch, but a request to wherever an answer points is what an attacker would want."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx

from streamvault.errors import TwitchRefused, TwitchUnavailable
from streamvault.twitch.exchange import Call, exchange

HOSTS = frozenset({"static-cdn.jtvnw.net"})
LARGEST = 2 * 1024 * 1024


async def fetch_picture(http: httpx.AsyncClient, url: str, hosts: frozenset[str] = HOSTS) -> bytes:
    """The body, whatever it is; redirects are not followed.

    Raises TwitchRefused where asking again cannot help, TwitchUnavailable."""
    parts = urlsplit(url)
    if parts.scheme != "https" or parts.netloc not in hosts:
        raise TwitchRefused("a picture is not at an https address of Twitch's CDN")
    call = Call("pictures", "GET", url)
    answer = await exchange(http, call, again=True)
    if answer.status == 200 and len(answer.body) <= LARGEST:
        return answer.body
    if answer.status == 200:
        raise TwitchRefused(f"{call.name} answers with more than {LARGEST} bytes")
    text = f"{call.name} answers {answer.status}"
    if answer.status == 429 or answer.status >= 500:
        raise TwitchUnavailable(text)
    raise TwitchRefused(text, status=answer.status)
