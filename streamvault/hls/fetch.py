"""HTTP for the recorder: many transfers on one event loop through libcurl's multi interface.

Connections are kept and shared by all recordings of the process; names stay cached for minutes, so
that a short outage of DNS goes unnoticed. Only http and https, also after a redirect.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import certifi
import pycurl

from streamvault.errors import FetchFailed
from streamvault.logs import scrub

Sink = Callable[[memoryview], bool | None]
"""Takes one piece of a body, valid during the call only. False means "not now": the transfer pauses
and the same piece is offered again."""

CONNECT_TIMEOUT_S = 5
DNS_CACHE_S = 600
MAX_REDIRECTS = 5
MAX_CONNECTIONS = 1024
READ_BUFFER_BYTES = 256 * 1024  # one buffer per event loop, not per transfer
MIN_SPEED_BYTES_S = 4096  # half of a 64 kbit/s audio rendition
PAUSE_S = 0.02
ERROR_BODY_BYTES = 64 * 1024  # drained, so that the connection can be used again
WEB_ONLY = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS
E_PROXY = 97  # CURLE_PROXY has no name in pycurl
PROXY_ERRORS = {pycurl.E_COULDNT_RESOLVE_PROXY, pycurl.E_COULDNT_CONNECT, E_PROXY}


@dataclass(frozen=True, slots=True)
class Page:
    """A text answer; `url` is where it came from after redirects."""

    text: str
    status: int
    url: str


@dataclass(frozen=True, slots=True)
class Received:
    size_bytes: int
    status: int


class Fetcher:
    """All HTTP transfers of one recorder process; bound to the event loop of its first request.

    `ca_bundle` is added to the system's authorities. Failures are FetchFailed, whose text names the
    host only: paths and queries of playlists hold tokens.
    """

    def __init__(self, ca_bundle: Path | None = None) -> None:
        self._authorities = _Authorities(ca_bundle)
        self._multi = pycurl.AsyncCurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, MAX_CONNECTIONS)
        self._idle: list[pycurl.Curl] = []
        self._paused: set[pycurl.Curl] = set()

    async def get_text(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        proxy: str | None = None,
        timeout_s: float = 5.0,
        max_bytes: int = 4 * 1024 * 1024,
        fresh: bool = False,
    ) -> Page:
        """Fetch a playlist. `fresh` opens a new connection. Raises FetchFailed."""
        body = bytearray()
        transfer = _Transfer(url, body.extend, max_bytes, proxy)
        curl = self._prepare(transfer, headers, timeout_s, fresh)
        curl.setopt(pycurl.ACCEPT_ENCODING, "")
        try:
            await self._perform(curl, transfer)
            return Page(
                body.decode("utf-8", "replace"), transfer.status, curl.getinfo(pycurl.EFFECTIVE_URL)
            )
        finally:
            self._release(curl)

    async def get(
        self,
        url: str,
        sink: Sink,
        *,
        headers: Mapping[str, str] | None = None,
        proxy: str | None = None,
        timeout_s: float = 20.0,
        stall_s: int = 6,
        max_bytes: int = 256 * 1024 * 1024,
        byte_range: tuple[int, int] | None = None,
        fresh: bool = False,
    ) -> Received:
        """Stream a body into `sink`; `byte_range` is (offset, length).

        Raises FetchFailed, also for a body shorter than its Content-Length and for one that comes
        slower than MIN_SPEED_BYTES_S for `stall_s` seconds.
        """
        transfer = _Transfer(url, sink, max_bytes, proxy)
        curl = self._prepare(transfer, headers, timeout_s, fresh)
        curl.setopt(pycurl.LOW_SPEED_LIMIT, MIN_SPEED_BYTES_S)
        curl.setopt(pycurl.LOW_SPEED_TIME, stall_s)
        if byte_range:
            offset, length = byte_range
            curl.setopt(pycurl.RANGE, f"{offset}-{offset + length - 1}")
            transfer.accepts = (206,)
        transfer.on_pause = self._pause
        try:
            await self._perform(curl, transfer)
            return Received(transfer.size, transfer.status)
        finally:
            self._release(curl)

    async def aclose(self) -> None:
        await self._multi.aclose()
        for curl in self._idle:
            curl.close()
        self._idle.clear()
        self._authorities.close()

    def _prepare(
        self,
        transfer: _Transfer,
        headers: Mapping[str, str] | None,
        timeout_s: float,
        fresh: bool,
    ) -> pycurl.Curl:
        curl = self._idle.pop() if self._idle else pycurl.Curl()
        transfer.curl = curl
        for option, value in (
            (pycurl.URL, transfer.url),
            (pycurl.PROTOCOLS, WEB_ONLY),
            (pycurl.REDIR_PROTOCOLS, WEB_ONLY),
            (pycurl.FOLLOWLOCATION, 1),
            (pycurl.MAXREDIRS, MAX_REDIRECTS),
            (pycurl.NOSIGNAL, 1),
            # One stream per connection: a lost packet must not hold up fifty recordings.
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.CONNECTTIMEOUT, CONNECT_TIMEOUT_S),
            (pycurl.TIMEOUT_MS, int(timeout_s * 1000)),
            (pycurl.DNS_CACHE_TIMEOUT, DNS_CACHE_S),
            (pycurl.BUFFERSIZE, READ_BUFFER_BYTES),
            (pycurl.CAINFO, self._authorities.path),
            (pycurl.PROXY_CAINFO, self._authorities.path),
            # Always set: an unset proxy would be taken from the environment.
            (pycurl.PROXY, transfer.proxy or ""),
            (pycurl.FRESH_CONNECT, int(fresh)),
            (pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in (headers or {}).items()]),
            (pycurl.HEADERFUNCTION, transfer.on_header),
        ):
            curl.setopt(option, value)
        curl.setopt(pycurl.WRITEFUNCTION, transfer.on_data, use_memoryview=True)
        return curl

    async def _perform(self, curl: pycurl.Curl, transfer: _Transfer) -> None:
        try:
            await self._multi.perform(curl)
        except pycurl.error as error:
            raise transfer.failure(error) from None
        if transfer.status not in transfer.accepts:
            raise transfer.refusal()

    def _release(self, curl: pycurl.Curl) -> None:
        self._paused.discard(curl)
        if self._multi.closed:
            curl.close()
            return
        curl.reset()
        self._idle.append(curl)

    def _pause(self, curl: pycurl.Curl) -> None:
        if not self._paused:
            asyncio.get_running_loop().call_later(PAUSE_S, self._resume)
        self._paused.add(curl)

    def _resume(self) -> None:
        paused, self._paused = self._paused, set()
        for curl in paused:
            curl.unpause()


class _Transfer:
    __slots__ = ("accepts", "curl", "limit", "on_pause", "proxy", "sink", "size", "status", "url")

    def __init__(self, url: str, sink: Sink, limit: int, proxy: str | None) -> None:
        self.url = url
        self.sink = sink
        self.limit = limit
        self.proxy = proxy
        self.size = 0
        self.status = 0
        self.accepts: tuple[int, ...] = (200, 203)
        self.curl: pycurl.Curl
        self.on_pause: Callable[[pycurl.Curl], None] | None = None

    def on_header(self, line: bytes) -> None:
        # getinfo() is not allowed inside a callback, so the status line is read here.
        if line.startswith(b"HTTP/"):
            fields = line.split(None, 2)
            self.status = int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else 0

    def on_data(self, piece: memoryview) -> int | None:
        if self.status not in self.accepts:
            self.size += len(piece)
            return None if self.size <= ERROR_BODY_BYTES else -1
        if self.size + len(piece) > self.limit:
            return -1
        if self.sink(piece) is False:
            if self.on_pause is None:
                return -1
            self.on_pause(self.curl)
            return pycurl.WRITEFUNC_PAUSE
        self.size += len(piece)
        return None

    def refusal(self) -> FetchFailed:
        if self.accepts == (206,) and self.status == 200:
            return FetchFailed(f"{self._host} ignores byte ranges", status=200)
        return FetchFailed(f"{self._host} answered {self.status}", status=self.status)

    def failure(self, error: pycurl.error) -> FetchFailed:
        code, *rest = error.args
        if code == pycurl.E_WRITE_ERROR:
            if self.status not in self.accepts:
                return self.refusal()
            return FetchFailed(f"{self._host} sends more than {self.limit:,} bytes")
        text = scrub(" ".join(str(rest[0]).split())) if rest else f"libcurl error {code}"
        by_proxy = bool(self.proxy) and (code in PROXY_ERRORS or "CONNECT" in text)
        # A status that came before a cut body says nothing about the failure.
        return FetchFailed(f"{self._host}: {text}", by_proxy=by_proxy)

    @property
    def _host(self) -> str:
        return urlsplit(self.url).hostname or "the address"


class _Authorities:
    """One file of trusted certificates; libcurl shares the parsed store of a file, not a blob's."""

    def __init__(self, extra: Path | None) -> None:
        system = ssl.get_default_verify_paths().cafile or certifi.where()
        self._combined: Path | None = None
        self.path = system
        if extra is not None:
            with tempfile.NamedTemporaryFile(suffix=".pem", delete=False) as file:
                file.write(Path(system).read_bytes() + b"\n" + extra.read_bytes())
            self._combined = Path(file.name)
            self.path = file.name

    def close(self) -> None:
        if self._combined is not None:
            self._combined.unlink(missing_ok=True)
