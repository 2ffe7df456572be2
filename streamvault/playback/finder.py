"""streamlink, in-process: what is live at an address, and where its playlist is. Blocking."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypedDict, TypeVar, cast

from streamlink.stream.hls.hls import HLSStream
from streamlink.stream.stream import Stream

from streamvault.errors import (
    AccessRefused,
    ProxyUnavailable,
    SourceError,
    SourceUnavailable,
    StreamOffline,
    UnknownSource,
)
from streamvault.playback.addresses import name_of, site_of
from streamvault.playback.failures import GONE, of_status
from streamvault.playback.proxies import Proxy, ProxyPool
from streamvault.playback.variants import Variant, choose
from streamvault.playback.visits import Visit, Visits
from streamvault.source import Playback, Sighting, Transport, Wish

log = logging.getLogger(__name__)

T = TypeVar("T")

AGAIN_S = 0.5
# What requests adds to each request by itself; our fetcher has its own.
_OWN_HEADERS = frozenset({"accept", "accept-encoding", "connection"})


class _Way(TypedDict):
    proxy: str | None
    proxy_id: str


class Finder:
    """The work behind `Sources`, whose docstrings say what each method is for."""

    def __init__(
        self,
        pool: ProxyPool,
        ca_bundle: Path | None,
        twitch_token: Callable[[], str | None],
    ) -> None:
        self._pool = pool
        self._visits = Visits(ca_bundle, twitch_token)

    def look(self, wish: Wish, *, live_only: bool = False) -> Sighting:
        return self._ask(wish, partial(_look, live_only=live_only))

    def resolve(self, wish: Wish) -> Playback:
        def find(visit: Visit) -> Playback:
            variant = _chosen(visit, wish)
            if isinstance(variant.stream, HLSStream):
                found = _playback(variant, variant.stream, visit.proxy)
                return replace(found, complete=visit.saw_everything)
            return Playback(wish.url, Transport.READER, variant.name, **_by_way_of(visit.proxy))

        playback = self._ask(wish, find)
        if not playback.complete:
            # The best one may be among those that a network just coming back kept from us.
            time.sleep(AGAIN_S)
            playback = self._ask(wish, find)
        return playback

    def open_reader(self, wish: Wish) -> BinaryIO:
        def read(visit: Visit) -> BinaryIO:
            # Its class has read and close, and nothing that a type checker would take for them.
            return cast("BinaryIO", _chosen(visit, wish).stream.open())

        return self._ask(wish, read, keep=True)

    def _ask(self, wish: Wish, question: Callable[[Visit], T], *, keep: bool = False) -> T:
        """By one way after the other, as long as it is the proxy that fails."""
        *others, last = self._pool.routes(wish)
        for proxy in others:
            try:
                return self._ask_by(proxy, wish, question, keep)
            except ProxyUnavailable as error:
                log.warning("taking another way", extra={"why": error.one_line})
        return self._ask_by(last, wish, question, keep)

    def _ask_by(
        self, proxy: Proxy | None, wish: Wish, question: Callable[[Visit], T], keep: bool
    ) -> T:
        try:
            answer = self._ask_as_somebody(proxy, wish, question, keep)
        except ProxyUnavailable as error:
            if proxy is not None:
                self._pool.failed(proxy.id, error.one_line)
            raise
        if proxy is not None:
            self._pool.worked(proxy.id)
        return answer

    def _ask_as_somebody(
        self, proxy: Proxy | None, wish: Wish, question: Callable[[Visit], T], keep: bool
    ) -> T:
        """Once more as nobody when Twitch does not take the account's token: without what the
        account is entitled to a stream is still recorded."""
        signed_in = False
        try:
            with self._visits.visit(wish, proxy, keep=keep) as visit:
                signed_in = visit.signed_in
                return question(visit)
        except AccessRefused as error:
            if not signed_in:
                raise
            log.warning("going on without the browser token", extra={"why": error.one_line})
        with self._visits.visit(wish, proxy, keep=keep, anonymous=True) as visit:
            return question(visit)


def _look(visit: Visit, *, live_only: bool) -> Sighting:
    if visit.platform == "twitch":
        return _look_at_twitch(visit)
    return _look_at(visit, live_only=live_only)


def _look_at_twitch(visit: Visit) -> Sighting:
    """One question to GQL when the channel is live; the player token decides when it is not."""
    login = _twitch_login(visit)
    stream_id = visit.plugin.get_id()
    if stream_id is None:
        # The plugin hides why there is no metadata; asking for streams brings the reason out.
        _streams(visit)
        raise SourceUnavailable("Twitch plays the channel but does not say which stream it is")
    return Sighting(
        platform="twitch",
        login=login,
        name=visit.plugin.get_author() or login,
        stream_id=stream_id,
        title=visit.plugin.get_title() or "",
        category=visit.plugin.get_category() or "",
    )


def _look_at(visit: Visit, *, live_only: bool) -> Sighting:
    streams = _streams(visit)
    if live_only and _has_ended(visit, choose(streams, "best").stream):
        raise StreamOffline(f"offline: what is at {site_of(visit.url)} has ended")
    return Sighting(
        platform=visit.platform,
        login=site_of(visit.url),
        name=visit.plugin.get_author() or name_of(visit.url),
        stream_id=visit.plugin.get_id(),
        title=visit.plugin.get_title() or "",
        category=visit.plugin.get_category() or "",
    )


def _has_ended(visit: Visit, stream: Stream) -> bool:
    """Whether it is a playlist of something that is complete (RFC 8216 §4.3.3.4)."""
    if not isinstance(stream, HLSStream):
        return False
    return "#EXT-X-ENDLIST" in visit.session.http.get(**stream.args).text


def _streams(visit: Visit) -> dict[str, Stream]:
    """What is live, never empty."""
    if visit.platform == "twitch":
        _twitch_login(visit)
    streams = dict(visit.streams())
    if not streams:
        raise _why_nothing(visit)
    return streams


def _twitch_login(visit: Visit) -> str:
    matches = visit.plugin.matches
    if matches is None or not matches["live"]:
        raise UnknownSource("only live channels of Twitch are recorded, not videos or clips")
    return str(visit.plugin.match["channel"]).lower()


def _why_nothing(visit: Visit) -> SourceError:
    """The Twitch plugin answers "nothing" for an offline channel and for every failure behind the
    token alike; the answers that it got tell them apart."""
    offline = StreamOffline(f"offline: nothing is live at {site_of(visit.url)}")
    if visit.platform != "twitch":
        return offline
    behind = [answer for answer in visit.answers if answer[0].endswith(".ttvnw.net")]
    if not behind:
        return offline
    bad = [(host, status) for host, status in behind if status >= 400]
    if any(status in GONE for _, status in bad):
        return offline
    if bad:
        return of_status(bad[-1][1], bad[-1][0])
    return SourceUnavailable("Twitch lists the stream, but none of its playlists can be read")


def _chosen(visit: Visit, wish: Wish) -> Variant:
    return choose(_streams(visit), wish.quality, wish.codecs, settled=wish.settled)


def _by_way_of(proxy: Proxy | None) -> _Way:
    return {"proxy": proxy.url, "proxy_id": proxy.id} if proxy else {"proxy": None, "proxy_id": ""}


def _playback(variant: Variant, stream: HLSStream, proxy: Proxy | None) -> Playback:
    prepared = stream.session.http.prepare_new_request(**stream.args)
    headers = {
        name: str(value)
        for name, value in prepared.headers.items()
        if name.lower() not in _OWN_HEADERS
    }
    size = variant.info.resolution if variant.info else None
    return Playback(
        playlist_url=str(prepared.url),
        transport=Transport.HLS,
        variant=variant.name,
        codecs=",".join(variant.info.codecs) if variant.info else "",
        resolution=f"{size.width}x{size.height}" if size else "",
        headers=headers,
        **_by_way_of(proxy),
    )
