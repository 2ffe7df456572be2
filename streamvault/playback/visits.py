"""One streamlink session per question: plugins leave cookies and headers behind in a session."""

from __future__ import annotations

import contextlib
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import certifi
import requests
from requests.adapters import BaseAdapter
from streamlink.exceptions import StreamlinkError
from streamlink.plugin import Plugin
from streamlink.session.http import SSLContextAdapter
from streamlink.session.session import Streamlink
from streamlink.stream.stream import Stream
from urllib3.util import Retry, create_urllib3_context

from streamvault.errors import SourceUnavailable, UnknownSource
from streamvault.playback.addresses import host_of
from streamvault.playback.failures import translate
from streamvault.playback.proxies import Proxy
from streamvault.source import Wish

HTTP_TIMEOUT_S = 10
BY_PROXY_S = 8.0
"""All requests of a question together: each answer of a proxy that trickles comes in time."""
ILL = 500  # and above: a service that fails, not a variant that is not there
REUSED_FOR_S = 3.0
OPTIONS = {
    # REQUESTS_CA_BUNDLE and *_PROXY in the environment would silently win over what is set here.
    "http-trust-env": False,
    "http-timeout": HTTP_TIMEOUT_S,
    # A client-integrity token would start whatever browser is installed.
    "webbrowser": False,
}


@dataclass
class Visit:
    """A plugin at one address. `answers` is every HTTP answer: host and status; `unanswered`
    counts the requests that got none."""

    session: Streamlink
    plugin: Plugin
    platform: str
    url: str
    proxy: Proxy | None = None
    signed_in: bool = False
    """Whether the account's token goes along."""
    answers: list[tuple[str, int]] = field(default_factory=list)
    unanswered: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def saw_everything(self) -> bool:
        """Whether every variant could be looked at: streamlink leaves out those that could not."""
        return not self.unanswered and all(status < ILL for _, status in self.answers)

    @property
    def host(self) -> str:
        return host_of(self.url)

    def streams(self) -> Mapping[str, Stream]:
        """Qualities by name, with the synonyms `best` and `worst`; empty when nothing is live."""
        try:
            return self.plugin.streams()
        except (LookupError, TypeError, AttributeError) as error:
            # A plugin meets a page that is no longer what its author saw.
            text = f"streamlink's plugin {self.platform} does not understand {self.host}"
            raise SourceUnavailable(text, hint=type(error).__name__) from error

    def note(self, response: requests.Response, *_: Any, **__: Any) -> None:
        self.answers.append((host_of(response.url), response.status_code))


class Visits:
    """Makes sessions that share the loaded plugins and the trusted authorities.

    `twitch_token` is a web session's token of Twitch; the plugin sends it to Twitch's GQL alone."""

    def __init__(
        self,
        ca_bundle: Path | None,
        twitch_token: Callable[[], str | None],
    ) -> None:
        self._twitch_token = twitch_token
        self._options: dict[str, Any] = dict(OPTIONS)
        if ca_bundle:
            self._options["http-ssl-verify"] = str(ca_bundle)
        self._connections = _Connections(_system_trust() if ca_bundle else None)
        self._plugins = Streamlink().plugins
        # Its lines hold addresses with tokens, and what matters comes back as an error.
        logging.getLogger("streamlink").setLevel(logging.CRITICAL)
        self._loading = threading.Lock()

    @contextlib.contextmanager
    def visit(
        self,
        wish: Wish,
        proxy: Proxy | None = None,
        *,
        keep: bool = False,
        anonymous: bool = False,
    ) -> Iterator[Visit]:
        """A visit that ends with its block, or with its stream if `keep`. Raises SourceError, and
        ProxyUnavailable where it is the proxy that does not answer."""
        visit = self._begin(wish, proxy, anonymous)
        try:
            yield visit
        except (StreamlinkError, OSError) as error:
            is_playlist = visit.platform == "hls"
            raise translate(
                error, visit.host, is_playlist=is_playlist, proxy=proxy.name if proxy else None
            ) from error
        finally:
            if not keep:
                visit.session.http.close()

    def _begin(self, wish: Wish, proxy: Proxy | None, anonymous: bool) -> Visit:
        url = wish.url
        way = {"http-proxy": proxy.url} if proxy else {}
        session = Streamlink(self._options | way, plugins_builtin=False)
        session.plugins = self._plugins
        with self._loading:
            # Not session.resolve_url: its cache would keep every session alive.
            match = session.plugins.match_url(url)
        if match is None:
            raise UnknownSource(
                f"no recorder knows {host_of(url)}",
                hint="a playlist's address ends in .m3u8 or begins with hls://",
            )
        platform, plugin = match
        token = self._twitch_token() if platform == "twitch" and not anonymous else None
        options = _plugin_options(platform, wish, token)
        visit = Visit(session, plugin(session, url, options), platform, url, proxy, bool(token))
        session.http.mount("https://", _Observed(self._connections, visit))
        session.http.hooks["response"].append(visit.note)
        return visit


def _plugin_options(platform: str, wish: Wish, token: str | None) -> dict[str, Any]:
    if platform != "twitch":
        return {}
    codecs: dict[str, Any] = {"supported-codecs": list(wish.codecs)} if wish.codecs else {}
    return codecs | ({"api-header": [("Authorization", f"OAuth {token}")]} if token else {})


class _Observed(BaseAdapter):
    """The shared connections as one visit uses them."""

    def __init__(self, connections: _Connections, visit: Visit) -> None:
        super().__init__()
        self._connections = connections
        self._visit = visit

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        visit = self._visit
        try:
            if visit.proxy is not None and time.monotonic() - visit.began > BY_PROXY_S:
                raise requests.ConnectTimeout("too slow", request=args[0] if args else None)
            return self._connections.send(*args, **kwargs)
        except requests.RequestException:
            visit.unanswered += 1
            raise

    def close(self) -> None:
        """The connections are everybody's."""


class _Connections(SSLContextAdapter):
    """Connections that outlive a session, for a few seconds: fifty streams that begin at once need
    not shake hands three hundred times. After a pause they are opened anew, since a network that
    was away leaves dead ones behind, which only a time-out would show.

    Trusts what the given context holds; requests itself adds the file named by `verify`."""

    def __init__(self, trust: ssl.SSLContext | None) -> None:
        self._trust = trust
        self._used_at = 0.0
        self._in_use = 0
        self._counting = threading.Lock()
        # What the other side closed meanwhile is asked again; each of these questions may be.
        super().__init__(max_retries=Retry(total=1, status=0, other=0, allowed_methods=None))

    def get_ssl_context(self) -> ssl.SSLContext:
        return self._trust or super().get_ssl_context()

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        with self._counting:
            if not self._in_use and time.monotonic() - self._used_at > REUSED_FOR_S:
                super().close()
            self._in_use += 1
        try:
            return super().send(*args, **kwargs)
        finally:
            with self._counting:
                self._in_use -= 1
                self._used_at = time.monotonic()

    def close(self) -> None:
        """A session that ends leaves them to the next one."""


def _system_trust() -> ssl.SSLContext:
    """The system's authorities and those that come with requests, parsed once for all sessions."""
    trust = create_urllib3_context()
    trust.load_default_certs()
    trust.load_verify_locations(certifi.where())
    return trust
