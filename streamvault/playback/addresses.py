"""Which addresses may be recorded. Kept free of streamlink, since the API asks too."""

from __future__ import annotations

from urllib.parse import SplitResult, unquote, urlsplit

from streamvault.errors import InvalidInput

MAX_LENGTH = 2048
ALLOWED = "an address such as https://www.twitch.tv/name, https://….m3u8 or hls://https://…"
# Names that a playlist has for what it is, not for whom it shows.
_NAMELESS = frozenset({"index", "master", "playlist", "live", "stream", "chunklist", "manifest"})


def check_url(url: str) -> None:
    """Raise InvalidInput unless it is an `http(s)` address, or one behind `hls://`.

    streamlink takes much more: `file:`, `hls://file:///…` and `httpstream://file:///…` read local
    files, a space begins request parameters, and `-` begins an option.
    """
    if not url or len(url) > MAX_LENGTH:
        raise InvalidInput(f"an address has 1 to {MAX_LENGTH} characters", hint=ALLOWED)
    if not url.isprintable() or any(c.isspace() or c == "\\" for c in url):
        raise InvalidInput("an address holds no white space, backslash or control character")
    parts = _split(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidInput("this is no address that can be recorded", hint=f"takes {ALLOWED}")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("an address must not hold a user name or a password")


def site_of(url: str) -> str:
    """Host, port and path: names a source without scheme, query or fragment."""
    parts = _split(url)
    return f"{parts.netloc}{parts.path}".rstrip("/")


def name_of(url: str) -> str:
    """What to call a source that does not say its name: a telling part of its path, or the host."""
    parts = _split(url)
    for segment in reversed(unquote(parts.path).split("/")):
        stem = segment.rsplit(".", 1)[0]
        if stem and stem.lower() not in _NAMELESS:
            return stem
    return parts.hostname or ""


def host_of(url: str) -> str:
    return _split(url).hostname or ""


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url[len("hls://") :] if url[:6].lower() == "hls://" else url)
        _ = parts.port
    except ValueError:
        raise InvalidInput("the address is malformed", hint=f"takes {ALLOWED}") from None
    return parts
