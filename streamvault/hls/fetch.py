"""HTTP for the recorder: many transfers on one event loop through libcurl's multi interface.

Connections are kept and shared by all recordings of the process; names stay cached for minutes, so
that a short outage of DNS goes unnoticed. Only http and https, also after a redirect.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import certifi
import pycurl

from streamvault.errors import FetchFailed
from streamvault.hls.memory import keep_freed_memory
from streamvault.hls.transfers import Transfers
from streamvault.logs import scrub

T = TypeVar("T", bound="_Transfer")
Sink = Callable[[list[bytes], bool], bool | None]
"""Takes the pieces that came since the last call, and whether they are the last. False means "not
now": the transfer pauses, and they are offered again later. The last ones cannot be refused."""

CONNECT_TIMEOUT_S = 5
DNS_CACHE_S = 600
MAX_REDIRECTS = 5
MAX_CONNECTIONS = 1024
# The 128 bit cipher first: public segments need no more, and it costs a quarter less CPU.
TLS13_CIPHERS = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
READ_BUFFER_BYTES = 256 * 1024  # one buffer per event loop, not per transfer
MIN_SPEED_BYTES_S = 4096  # half of a 64 kbit/s audio rendition
HAND_ON_S = 0.2
"""Bodies are handed on this often and at their end: libcurl brings them in pieces of 16 kB, and a
call into Python for each would cost as much as decrypting it."""
ERROR_BODY_BYTES = 64 * 1024  # drained, so that the connection can be used again
WEB_ONLY = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS
E_PROXY = 97  # CURLE_PROXY has no name in pycurl
NO_PROXY_LOGIN = 407
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


class Terms(NamedTuple):
    """What a request asks for beside its address; mostly the same as the time before."""

    headers: Mapping[str, str] | None
    proxy: str | None
    timeout_s: float
    fresh: bool
    max_bytes: int
    stall_s: int = 0
    byte_range: tuple[int, int] | None = None


class Fetcher:
    """All HTTP transfers of one recorder process; bound to the event loop of its first request.

    `ca_bundle` is added to the system's authorities, in a file of `folder`. Failures are
    FetchFailed, whose text names the host only: paths and queries of playlists hold tokens.
    """

    def __init__(self, ca_bundle: Path | None = None, folder: Path | None = None) -> None:
        keep_freed_memory()
        self._authorities = _Authorities(ca_bundle, folder)
        self._transfers = Transfers(MAX_CONNECTIONS)
        self._idle_texts: list[_Text] = []
        self._idle_streams: list[_Stream] = []
        self._streams: set[_Stream] = set()
        self._timer: asyncio.TimerHandle | None = None

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
        idle = self._idle_texts
        text = idle.pop() if idle else _Text(self._authorities.path)
        try:
            text.begin(url, Terms(headers, proxy, timeout_s, fresh, max_bytes))
            await self._perform(text)
            return text.page()
        finally:
            self._release(text, idle)

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
        idle = self._idle_streams
        stream = idle.pop() if idle else _Stream(self._authorities.path, self._transfers)
        try:
            stream.begin(
                url, Terms(headers, proxy, timeout_s, fresh, max_bytes, stall_s, byte_range)
            )
            stream.sink = sink
            if not byte_range:
                self._watch(stream)
            await self._perform(stream)
            stream.hand_on(last=True)
            return Received(stream.size, stream.status)
        finally:
            self._unwatch(stream)
            self._release(stream, idle)

    async def aclose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._transfers.close()
        for transfer in (*self._idle_texts, *self._idle_streams):
            transfer.curl.close()
        self._idle_texts.clear()
        self._idle_streams.clear()

    async def _perform(self, transfer: _Transfer) -> None:
        try:
            await self._transfers.perform(transfer.curl)
        except pycurl.error as error:
            transfer.status = transfer.curl.getinfo(pycurl.RESPONSE_CODE)
            raise transfer.failure(error) from None
        transfer.clean = True
        transfer.status = transfer.curl.getinfo(pycurl.RESPONSE_CODE)
        if transfer.status not in transfer.accepts:
            raise transfer.refusal()

    def _release(self, transfer: T, idle: list[T]) -> None:
        if transfer.clean and not self._transfers.closed:
            idle.append(transfer)
        else:
            transfer.curl.close()

    def _watch(self, stream: _Stream) -> None:
        self._streams.add(stream)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(HAND_ON_S, self._hand_on)

    def _unwatch(self, stream: _Stream) -> None:
        self._streams.discard(stream)
        if self._timer is not None and not self._streams:
            self._timer.cancel()
            self._timer = None

    def _hand_on(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(HAND_ON_S, self._hand_on)
        for stream in self._streams:
            stream.hand_on()


class _Transfer:
    """A libcurl handle that is used again, and what its request is at the moment."""

    def __init__(self, authorities: str) -> None:
        self.curl = pycurl.Curl()
        for option, value in (
            (pycurl.PROTOCOLS, WEB_ONLY),
            (pycurl.REDIR_PROTOCOLS, WEB_ONLY),
            (pycurl.FOLLOWLOCATION, 1),
            (pycurl.MAXREDIRS, MAX_REDIRECTS),
            (pycurl.NOSIGNAL, 1),
            # One stream per connection: a lost packet must not hold up fifty recordings.
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.CONNECTTIMEOUT, CONNECT_TIMEOUT_S),
            (pycurl.DNS_CACHE_TIMEOUT, DNS_CACHE_S),
            (pycurl.BUFFERSIZE, READ_BUFFER_BYTES),
            (pycurl.TLS13_CIPHERS, TLS13_CIPHERS),
            (pycurl.CAINFO, authorities),
            (pycurl.PROXY_CAINFO, authorities),
        ):
            self.curl.setopt(option, value)
        self._terms: Terms | None = None
        self.url = ""
        self.status = 0
        self.clean = False
        """The last request came to its end, so that the handle can be used again."""

    def begin(self, url: str, terms: Terms) -> None:
        self.url, self.status, self.clean = url, 0, False
        self.curl.setopt(pycurl.URL, url)
        # Each option costs a call into libcurl, and a live stream never changes them.
        if terms != self._terms:
            self.agree(terms)
            self._terms = terms

    def agree(self, terms: Terms) -> None:
        headers = [f"{name}: {value}" for name, value in (terms.headers or {}).items()]
        # An empty list would leave those of the request before.
        self.curl.setopt(pycurl.HTTPHEADER, headers or None)
        # Always set: an unset proxy would be taken from the environment.
        self.curl.setopt(pycurl.PROXY, terms.proxy or "")
        self.curl.setopt(pycurl.TIMEOUT_MS, int(terms.timeout_s * 1000))
        self.curl.setopt(pycurl.FRESH_CONNECT, int(terms.fresh))
        self.proxy, self.limit = terms.proxy, terms.max_bytes
        self.accepts: tuple[int, ...] = (206,) if terms.byte_range else (200, 203)

    def refusal(self) -> FetchFailed:
        if self.accepts == (206,) and self.status == 200:
            return FetchFailed(f"{self._host} ignores byte ranges", status=200)
        if self.proxy and self.status == NO_PROXY_LOGIN:
            return FetchFailed("the proxy refuses our login (407)", by_proxy=True)
        return FetchFailed(f"{self._host} answered {self.status}", status=self.status)

    def failure(self, error: pycurl.error) -> FetchFailed:
        code, *rest = error.args
        if code == pycurl.E_HTTP_RETURNED_ERROR:
            return self.refusal()
        if code == pycurl.E_WRITE_ERROR and self.status not in self.accepts:
            return self.refusal()
        if code in (pycurl.E_WRITE_ERROR, pycurl.E_FILESIZE_EXCEEDED):
            return FetchFailed(f"{self._host} sends more than {self.limit:,} bytes")
        text = scrub(" ".join(str(rest[0]).split())) if rest else f"libcurl error {code}"
        by_proxy = bool(self.proxy) and (code in PROXY_ERRORS or "CONNECT" in text)
        # A status that came before a cut body says nothing about the failure.
        return FetchFailed(f"{self._host}: {text}", by_proxy=by_proxy, partial=self.has_bytes)

    @property
    def has_bytes(self) -> bool:
        return False

    @property
    def _host(self) -> str:
        return urlsplit(self.url).hostname or "the address"


class _Text(_Transfer):
    """A small body, counted as it is unpacked; that of an error is drained and dropped."""

    def __init__(self, authorities: str) -> None:
        super().__init__(authorities)
        self._head: list[bytes] = []
        self._body = bytearray()
        self._dropped = 0
        self.curl.setopt(pycurl.ACCEPT_ENCODING, "")
        self.curl.setopt(pycurl.HEADERFUNCTION, self._head.append)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._on_data, use_memoryview=True)

    def begin(self, url: str, terms: Terms) -> None:
        super().begin(url, terms)
        self._head.clear()
        self._body.clear()
        self._dropped = 0

    def page(self) -> Page:
        text = self._body.decode("utf-8", "replace")
        return Page(text, self.status, self.curl.getinfo(pycurl.EFFECTIVE_URL))

    def _on_data(self, piece: memoryview) -> int | None:
        # getinfo() is not allowed inside a callback, so the status line is read here.
        self.status = _last_status(self._head)
        if self.status not in self.accepts:
            self._dropped += len(piece)
            return None if self._dropped <= ERROR_BODY_BYTES else -1
        if len(self._body) + len(piece) > self.limit:
            return -1
        self._body += piece
        return None


def _last_status(head: list[bytes]) -> int:
    """Of the last answer among these lines; redirects and proxies bring several."""
    for line in reversed(head):
        if line.startswith(b"HTTP/"):
            fields = line.split(None, 2)
            return int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else 0
    return 0


class _Stream(_Transfer):
    """A large body, handed on piece by piece."""

    def __init__(self, authorities: str, transfers: Transfers) -> None:
        super().__init__(authorities)
        self._transfers = transfers
        self._state = pycurl.PAUSE_CONT
        self._pieces: list[bytes] = []
        self.sink: Sink
        self.size = 0
        self.curl.setopt(pycurl.FAILONERROR, 1)
        self.curl.setopt(pycurl.LOW_SPEED_LIMIT, MIN_SPEED_BYTES_S)
        self.curl.setopt(pycurl.WRITEFUNCTION, self._pieces.append)

    def begin(self, url: str, terms: Terms) -> None:
        super().begin(url, terms)
        self._state = pycurl.PAUSE_CONT
        self._pieces.clear()
        self.size = 0

    def agree(self, terms: Terms) -> None:
        super().agree(terms)
        self.curl.setopt(pycurl.MAXFILESIZE_LARGE, terms.max_bytes)
        self.curl.setopt(pycurl.LOW_SPEED_TIME, terms.stall_s)
        if terms.byte_range:
            offset, length = terms.byte_range
            self.curl.setopt(pycurl.RANGE, f"{offset}-{offset + length - 1}")
        else:
            self.curl.unsetopt(pycurl.RANGE)

    @property
    def has_bytes(self) -> bool:
        return bool(self.size or self._pieces)

    def hand_on(self, *, last: bool = False) -> None:
        if not self._pieces and not last:
            return
        pieces = self._pieces.copy()
        if self.sink(pieces, last) is False and not last:
            self._pause(pycurl.PAUSE_RECV)
            return
        self._pieces.clear()
        self.size += sum(map(len, pieces))
        if not last:
            self._pause(pycurl.PAUSE_CONT)

    def _pause(self, state: int) -> None:
        if state != self._state:
            self._state = state
            self._transfers.pause(self.curl, state)


class _Authorities:
    """One file of trusted certificates; libcurl shares the parsed store of a file, not a blob's."""

    def __init__(self, extra: Path | None, folder: Path | None) -> None:
        self.path = ssl.get_default_verify_paths().cafile or certifi.where()
        if extra is None:
            return
        assert folder is not None, "a bundle of one's own needs a folder to be combined in"
        # Not a temporary file: a cleaner would take it from a recorder that runs for weeks.
        combined = folder / "authorities.pem"
        folder.mkdir(parents=True, exist_ok=True)
        fresh = combined.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(Path(self.path).read_bytes() + b"\n" + extra.read_bytes())
        fresh.replace(combined)
        self.path = str(combined)
