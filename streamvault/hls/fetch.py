"""HTTP for the recorder: many transfers on one event loop through libcurl's multi interface.

Connections are kept and shared by all recordings of the process; names stay cached for minutes, so
that a short outage of DNS goes unnoticed. Only http and https, also after a redirect.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import certifi
import pycurl

from streamvault.errors import FetchFailed
from streamvault.logs import scrub

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
KEPT_BYTES = 4 * 1024 * 1024
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

    `ca_bundle` is added to the system's authorities, in a file of `folder`. Failures are
    FetchFailed, whose text names the host only: paths and queries of playlists hold tokens.
    """

    def __init__(self, ca_bundle: Path | None = None, folder: Path | None = None) -> None:
        _keep_freed_memory()
        self._authorities = _Authorities(ca_bundle, folder)
        self._multi = pycurl.AsyncCurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, MAX_CONNECTIONS)
        self._idle: list[pycurl.Curl] = []
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
        text = _Text(url, proxy, max_bytes)
        curl = self._prepare(text, headers, timeout_s, fresh)
        curl.setopt(pycurl.ACCEPT_ENCODING, "")
        curl.setopt(pycurl.HEADERFUNCTION, text.on_header)
        curl.setopt(pycurl.WRITEFUNCTION, text.on_data, use_memoryview=True)
        try:
            await self._perform(curl, text)
            return Page(
                text.body.decode("utf-8", "replace"),
                text.status,
                curl.getinfo(pycurl.EFFECTIVE_URL),
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
        stream = _Stream(url, proxy, max_bytes, sink)
        curl = stream.curl = self._prepare(stream, headers, timeout_s, fresh)
        curl.setopt(pycurl.FAILONERROR, 1)
        curl.setopt(pycurl.MAXFILESIZE_LARGE, max_bytes)
        curl.setopt(pycurl.LOW_SPEED_LIMIT, MIN_SPEED_BYTES_S)
        curl.setopt(pycurl.LOW_SPEED_TIME, stall_s)
        curl.setopt(pycurl.WRITEFUNCTION, stream.pieces.append)
        if byte_range:
            offset, length = byte_range
            curl.setopt(pycurl.RANGE, f"{offset}-{offset + length - 1}")
            stream.accepts = (206,)
        else:
            self._watch(stream)
        try:
            await self._perform(curl, stream)
            stream.hand_on(last=True)
            return Received(stream.size, stream.status)
        finally:
            self._streams.discard(stream)
            self._release(curl)

    async def aclose(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._multi.aclose()
        for curl in self._idle:
            curl.close()
        self._idle.clear()

    def _prepare(
        self,
        transfer: _Transfer,
        headers: Mapping[str, str] | None,
        timeout_s: float,
        fresh: bool,
    ) -> pycurl.Curl:
        curl = self._idle.pop() if self._idle else pycurl.Curl()
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
            (pycurl.TLS13_CIPHERS, TLS13_CIPHERS),
            (pycurl.CAINFO, self._authorities.path),
            (pycurl.PROXY_CAINFO, self._authorities.path),
            # Always set: an unset proxy would be taken from the environment.
            (pycurl.PROXY, transfer.proxy or ""),
            (pycurl.FRESH_CONNECT, int(fresh)),
            (pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in (headers or {}).items()]),
        ):
            curl.setopt(option, value)
        return curl

    async def _perform(self, curl: pycurl.Curl, transfer: _Transfer) -> None:
        try:
            await self._multi.perform(curl)
        except pycurl.error as error:
            transfer.status = curl.getinfo(pycurl.RESPONSE_CODE)
            raise transfer.failure(error) from None
        transfer.status = curl.getinfo(pycurl.RESPONSE_CODE)
        if transfer.status not in transfer.accepts:
            raise transfer.refusal()

    def _release(self, curl: pycurl.Curl) -> None:
        if self._multi.closed:
            curl.close()
            return
        curl.reset()
        self._idle.append(curl)

    def _watch(self, stream: _Stream) -> None:
        self._streams.add(stream)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(HAND_ON_S, self._hand_on)

    def _hand_on(self) -> None:
        self._timer = None
        for stream in self._streams:
            stream.hand_on()
        if self._streams:
            self._timer = asyncio.get_running_loop().call_later(HAND_ON_S, self._hand_on)


def _keep_freed_memory() -> None:
    """Let glibc keep up to twice this much freed memory: segments come and go, and giving their
    pages back each time doubled the time spent in the kernel. It raises its limits by itself when
    a large block is freed (mallopt(3), M_MMAP_THRESHOLD); elsewhere this does nothing."""
    block = bytearray(KEPT_BYTES)
    del block


class _Transfer:
    """What one request is, and how its failure is told."""

    def __init__(self, url: str, proxy: str | None, limit: int) -> None:
        self.url = url
        self.proxy = proxy
        self.limit = limit
        self.status = 0
        self.accepts: tuple[int, ...] = (200, 203)

    def refusal(self) -> FetchFailed:
        if self.accepts == (206,) and self.status == 200:
            return FetchFailed(f"{self._host} ignores byte ranges", status=200)
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

    def __init__(self, url: str, proxy: str | None, limit: int) -> None:
        super().__init__(url, proxy, limit)
        self.body = bytearray()
        self._dropped = 0

    def on_header(self, line: bytes) -> None:
        # getinfo() is not allowed inside a callback, so the status line is read here.
        if line.startswith(b"HTTP/"):
            fields = line.split(None, 2)
            self.status = int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else 0

    def on_data(self, piece: memoryview) -> int | None:
        if self.status not in self.accepts:
            self._dropped += len(piece)
            return None if self._dropped <= ERROR_BODY_BYTES else -1
        if len(self.body) + len(piece) > self.limit:
            return -1
        self.body += piece
        return None


class _Stream(_Transfer):
    """A large body, handed on piece by piece."""

    def __init__(self, url: str, proxy: str | None, limit: int, sink: Sink) -> None:
        super().__init__(url, proxy, limit)
        self._sink = sink
        self._state = pycurl.PAUSE_CONT
        self.curl: pycurl.Curl
        self.pieces: list[bytes] = []
        self.size = 0

    @property
    def has_bytes(self) -> bool:
        return bool(self.size or self.pieces)

    def hand_on(self, *, last: bool = False) -> None:
        if not self.pieces and not last:
            return
        pieces = self.pieces.copy()
        if self._sink(pieces, last) is False and not last:
            self._pause(pycurl.PAUSE_RECV)
            return
        self.pieces.clear()
        self.size += sum(map(len, pieces))
        if not last:
            self._pause(pycurl.PAUSE_CONT)

    def _pause(self, state: int) -> None:
        if state == self._state:
            return
        self._state = state
        # One that is finished, and only not been told so yet, cannot be paused and need not be.
        with suppress(pycurl.error):
            self.curl.pause(state)


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
