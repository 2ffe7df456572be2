"""What streamlink raises, in our own words: one line, without a URL, since those hold tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator

import requests
from streamlink.exceptions import StreamlinkError

from streamvault.errors import (
    AccessRefused,
    ProxyUnavailable,
    SourceError,
    SourceUnavailable,
    StreamOffline,
    UnknownSource,
)
from streamvault.logs import scrub
from streamvault.playback.addresses import host_of

REFUSED = frozenset({401, 403, 451})
GONE = frozenset({404, 410})
_ADDRESS = re.compile(r"https?://\S+")
_REFUSAL = re.compile(r"integrity|unauthori|forbidden|subscri|geo|login|permission", re.IGNORECASE)


def translate(
    error: StreamlinkError | OSError, host: str, *, is_playlist: bool, proxy: str | None = None
) -> SourceError:
    """Our error for streamlink's; `host` is named when the error itself does not know one, `proxy`
    when no answer came by way of it.

    `is_playlist`: a person gave the address of a playlist, so a body that is none means that the
    address is wrong; elsewhere it means that a service is ill.
    """
    for cause in _chain(error):
        if isinstance(cause, requests.RequestException):
            if proxy is not None and _is_the_ways(cause):
                return ProxyUnavailable(_by_proxy(cause, host, proxy))
            return _of_request(cause, host)
        if isinstance(cause, ValueError) and "EXTM3U" in str(cause):
            text = f"what {host} answers is not an HLS playlist"
            return UnknownSource(text) if is_playlist else SourceUnavailable(text)
    if str(error).startswith(("Unable to validate", "Unable to parse")):
        return SourceUnavailable(f"{host} answers something else than expected")
    text = scrub(_ADDRESS.sub(lambda match: host_of(match[0]), " ".join(str(error).split())))[:200]
    return (AccessRefused if _REFUSAL.search(text) else SourceUnavailable)(f"{host}: {text}")


def of_status(status: int, host: str) -> SourceError:
    if status in REFUSED:
        return AccessRefused(f"{host} refuses access (HTTP {status})")
    if status in GONE:
        return StreamOffline(f"{host} has no such stream (HTTP {status})")
    return SourceUnavailable(f"{host} answers HTTP {status}")


def _of_request(error: requests.RequestException, host: str) -> SourceError:
    if error.request is not None and error.request.url:
        host = host_of(str(error.request.url))
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return of_status(error.response.status_code, host)
    if isinstance(error, requests.exceptions.ProxyError):
        return SourceUnavailable(f"{host} cannot be reached through the proxy")
    if _is_of_certificate(error):
        text = f"the certificate of {host} is not trusted"
        return SourceUnavailable(text, hint="add its authority with CA_BUNDLE")
    if isinstance(error, requests.Timeout):
        return SourceUnavailable(f"{host} does not answer in time")
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return UnknownSource("this is not an address")
    return SourceUnavailable(f"{host} cannot be reached")


def _is_the_ways(error: requests.RequestException) -> bool:
    """No answer came. Whether it was the proxy or what is behind it cannot be told, and the next
    proxy may know better."""
    silent = (requests.ConnectionError, requests.Timeout)
    return isinstance(error, silent) and not _is_of_certificate(error)


def _is_of_certificate(error: requests.RequestException) -> bool:
    """A connection that is cut in its handshake is an SSLError as well; only OpenSSL's own word
    tells them apart through all that is wrapped around it."""
    is_ssl = isinstance(error, requests.exceptions.SSLError)
    return is_ssl and "CERTIFICATE_VERIFY_FAILED" in str(error)


def _by_proxy(error: requests.RequestException, host: str, proxy: str) -> str:
    """Without the error's own words, which hold the proxy's address."""
    if error.request is not None and error.request.url:
        host = host_of(str(error.request.url))
    text = f"{host} cannot be reached through the proxy {proxy}".rstrip()
    if isinstance(error, requests.Timeout):
        return f"{text} in time"
    refused = "407" in str(error) or "authentication" in str(error).lower()
    return f"{text}: it refuses the login" if refused else text


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
