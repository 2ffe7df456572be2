"""streamlink, in-process: what is live at an address, and where its playlist is. Blocking."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, cast

from streamlink.stream.hls.hls import HLSStream
from streamlink.stream.stream import Stream

from streamvault.errors import SourceError, SourceUnavailable, StreamOffline, UnknownSource
from streamvault.playback.addresses import name_of, site_of
from streamvault.playback.failures import GONE, of_status
from streamvault.playback.variants import Variant, choose
from streamvault.playback.visits import Visit, Visits
from streamvault.source import Playback, Sighting, Transport

# What requests adds to each request by itself; our fetcher has its own.
_OWN_HEADERS = frozenset({"accept", "accept-encoding", "connection"})


class Finder:
    """The work behind `Sources`, whose docstrings say what each method is for."""

    def __init__(self, proxy_url: str | None, ca_bundle: Path | None) -> None:
        self._proxy_url = proxy_url
        self._visits = Visits(proxy_url, ca_bundle)

    def look(self, url: str) -> Sighting:
        with self._visits.visit(url) as visit:
            return _look_at_twitch(visit) if visit.platform == "twitch" else _look_at(visit)

    def resolve(self, url: str, quality: str) -> Playback:
        with self._visits.visit(url) as visit:
            variant = choose(_streams(visit), quality)
            if not isinstance(variant.stream, HLSStream):
                return Playback(url, Transport.READER, variant.name, proxy=self._proxy_url)
            return _playback(variant, variant.stream, self._proxy_url)

    def open_reader(self, url: str, quality: str) -> BinaryIO:
        with self._visits.visit(url, keep=True) as visit:
            variant = choose(_streams(visit), quality)
            # Its class has read and close, and nothing that a type checker would take for them.
            return cast("BinaryIO", variant.stream.open())


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


def _look_at(visit: Visit) -> Sighting:
    _streams(visit)
    return Sighting(
        platform=visit.platform,
        login=site_of(visit.url),
        name=visit.plugin.get_author() or name_of(visit.url),
        stream_id=visit.plugin.get_id(),
        title=visit.plugin.get_title() or "",
        category=visit.plugin.get_category() or "",
    )


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


def _playback(variant: Variant, stream: HLSStream, proxy_url: str | None) -> Playback:
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
        proxy=proxy_url,
    )
