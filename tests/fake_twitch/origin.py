"""GQL, usher, playlists and segments: what playback needs, by streamlink's untouched plugin.

The same channels are also plain HLS: `/hls/<channel>.m3u8` (media playlist of the source) and
`/hls/<channel>/master.m3u8`, on whatever host and scheme the request came.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections import Counter
from functools import lru_cache
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.fake_twitch import playlists
from tests.fake_twitch.calls import CallLog
from tests.fake_twitch.faults import Faults, answer
from tests.fake_twitch.media import Pools
from tests.fake_twitch.playlists import Line, find_variant
from tests.fake_twitch.streams import Options, Slot, Stream, Variant
from tests.fake_twitch.world import Channel, Session, World

PLAYLIST_HOST = "fra05.playlist.ttvnw.net"
SEGMENT_HOST = "edge-1.hls.ttvnw.net"
M3U8 = "application/vnd.apple.mpegurl"
_SIGNING_KEY = b"fake-usher"
_TOKEN_REFUSED = {
    "error": "Unauthorized",
    "status": 401,
    "message": 'The "Authorization" token is invalid.',
}


class Origin:
    """The handlers. `seen` counts requests by target, `fetched` by channel, variant and number."""

    def __init__(self, world: World, pools: Pools, faults: Faults, calls: CallLog) -> None:
        self.world = world
        self.calls = calls
        self.pools = pools
        self.faults = faults
        self.seen: Counter[str] = Counter()
        self.fetched: Counter[tuple[str, str, int]] = Counter()
        self.body = lru_cache(maxsize=48)(self._body)

    def routes(self) -> list[Route]:
        return [
            Route("/gql", self.gql, methods=["POST"]),
            Route("/api/v2/channel/hls/{login}.m3u8", self.usher),
            Route("/v1/playlist/{session}/{variant}.m3u8", self.playlist),
            Route("/v1/segment/{session}/{variant}/{file}", self.segment),
            Route("/hls/{login}/master.m3u8", self.plain_master),
            Route("/hls/{login}/{variant}.m3u8", self.plain_playlist),
            Route("/hls/{login}.m3u8", self.plain_playlist),
        ]

    # ---- gql.twitch.tv

    async def gql(self, request: Request) -> Response:
        self.seen["gql"] += 1
        call = self.calls.begin("gql", request)
        asked: Any = await request.json()
        queries = asked if isinstance(asked, list) else [asked]
        login = str(_variables(queries[0]).get("login", "")).lower()
        answers = [self._gql_answer(query) for query in queries]
        usual = JSONResponse(answers if isinstance(asked, list) else answers[0])
        if "authorization" in request.headers and not call.token_kind:
            usual = JSONResponse(_TOKEN_REFUSED, 401)
        fault = self.faults.hit("gql", login)
        return call.end(fault, await answer(fault, usual))

    def _gql_answer(self, query: dict[str, Any]) -> dict[str, Any]:
        variables = _variables(query)
        channel = self.world.channel(str(variables.get("login") or variables.get("channelLogin")))
        match query["operationName"]:
            case "PlaybackAccessToken":
                return {"data": {"streamPlaybackAccessToken": _token(channel)}}
            case "ChannelShell":
                return {"data": {"userOrError": _shell(channel)}}
            case "StreamMetadata":
                return {"data": {"user": _metadata(channel)}}
        return {"errors": [{"message": "PersistedQueryNotFound"}]}

    # ---- usher.ttvnw.net

    async def usher(self, request: Request) -> Response:
        login = request.path_params["login"]
        self.seen["usher"] += 1
        call = self.calls.begin("usher", request)
        fault = self.faults.hit("usher", login)
        return call.end(fault, await answer(fault, self._usher(login, request)))

    def _usher(self, login: str, request: Request) -> Response:
        query = request.query_params
        if not _is_signed(query.get("token", ""), query.get("sig", ""), login):
            return _usher_error(403, "nauth_token_mismatch", "The token is not valid")
        channel = self.world.channel(login)
        if channel is None or channel.stream is None:
            return _usher_error(404, "transcode_does_not_exist", "transcode does not exist")
        codecs = query.get("supported_codecs", "h264").split(",")
        variants = [v for v in channel.variants if self._plays(v, codecs)]
        session = self.world.join(channel, channel.stream.options)
        base = f"https://{PLAYLIST_HOST}/v1/playlist/{session.id}"
        urls = [f"{base}/{variant.name}.m3u8" for variant in variants]
        return Response(playlists.master(variants, self.pools, urls), media_type=M3U8)

    def _plays(self, variant: Variant, codecs: list[str]) -> bool:
        codec = self.pools[variant.profile].profile.codec
        return {"hevc": "h265"}.get(codec, codec) in codecs

    # ---- *.playlist.ttvnw.net

    async def playlist(self, request: Request) -> Response:
        self.seen["playlist"] += 1
        session = self.world.sessions.get(request.path_params["session"])
        if session is None or time.time() > session.expires:
            return Response("Forbidden", 403)
        base = f"https://{SEGMENT_HOST}/v1/segment/"
        return await self._media(session, request.path_params["variant"], base)

    async def _media(self, session: Session, variant: str, base: str) -> Response:
        session.channel.advance()
        fault = self.faults.hit("playlist", session.channel.login, variant)
        stream = self._playable(session)
        if stream is None:
            return await answer(fault, Response("Not Found", 404))
        channel = session.channel
        end = len(channel.slots)
        met = fault.met_at.setdefault(channel.login, end) if fault else end
        end = met if fault and fault.kind == "frozen" else end
        first = session.joined if session.preroll else stream.first
        slots = playlists.window(channel, stream.options, first, end)
        back = fault.segments if fault and fault.kind == "loop" else 0
        lines = [Line(s.number, _looped(channel, s, met, back, stream.first)) for s in slots]
        text = playlists.media(session, lines, stream.options, base, variant)
        text += self._tail(session, slots, stream, base, variant)
        return await answer(fault, Response(text, media_type=M3U8))

    def _tail(
        self, session: Session, slots: list[Slot], stream: Stream, base: str, variant: str
    ) -> str:
        channel = session.channel
        if channel.stream is None:
            ended = channel.ending and channel.ending.endlist
            return "#EXT-X-ENDLIST\n" if ended else ""
        is_newest = bool(slots) and slots[-1].number == len(channel.slots) - 1
        if not is_newest or session.ad(slots[-1]):
            return ""
        return playlists.prefetch(session, base, variant, slots[-1], stream.options)

    def _playable(self, session: Session) -> Stream | None:
        """The stream that the session still shows: the live one, or one that ended a moment ago."""
        channel = session.channel
        stream, ending = channel.stream, channel.ending
        if stream is None and ending and ending.endlist:
            stream = ending.stream if time.time() < ending.at + ending.linger_s else None
        return stream if stream and stream.id == session.stream_id else None

    # ---- *.hls.ttvnw.net

    async def segment(self, request: Request) -> Response:
        self.seen["segment"] += 1
        session = self.world.sessions.get(request.path_params["session"])
        if session is None:
            return Response("Forbidden", 403)
        variant, file = request.path_params["variant"], request.path_params["file"]
        if file.endswith(".init.mp4"):
            return Response(self.pools[_init_pool(file)].init, media_type="video/mp4")
        number = int(file.partition(".")[0])
        channel = session.channel
        channel.advance()
        fault = self.faults.hit("segment", channel.login, variant, number)
        slot = channel.slot(number)
        if slot is None or _is_gone(channel, slot):
            return await answer(fault, Response("Not Found", 404))
        self.fetched[channel.login, variant, number] += 1
        body = self.body(channel.login, variant, slot, session.ad(slot) is not None)
        return await answer(fault, Response(body, media_type="video/mp2t"))

    def _body(self, login: str, variant: str, slot: Slot, is_ad: bool) -> bytes:
        profile = find_variant(slot, variant).profile
        pool = self.pools[profile]
        if is_ad and not pool.profile.audio_only:
            pool = self.pools["ad" if pool.is_ts else "ad-fmp4"]
        kind = "ad" if is_ad else "content"
        name = f"{login} {variant} {slot.stream_id} {slot.number} {kind} {slot.at:.3f}"
        return pool.segment(slot.unit, slot.duration_s, slot.ticks, name)

    # ---- plain HLS

    async def plain_master(self, request: Request) -> Response:
        self.seen["master"] += 1
        channel = self.world.channel(request.path_params["login"])
        if channel is None or channel.stream is None:
            return Response("Not Found", 404)
        names = [variant.name for variant in channel.variants]
        base = f"{request.base_url}hls/{channel.login}"
        urls = [f"{base}/{name}.m3u8" for name in names]
        return Response(playlists.master(channel.variants, self.pools, urls), media_type=M3U8)

    async def plain_playlist(self, request: Request) -> Response:
        """One session for all, since the address holds none; it lives as long as its stream."""
        self.seen["playlist"] += 1
        channel = self.world.channel(request.path_params["login"])
        if channel is None:
            return Response("Not Found", 404)
        session = self._plain_session(channel)
        if session is None:
            return await answer(
                self.faults.hit("playlist", channel.login), Response("Not Found", 404)
            )
        source = next((v.name for v in channel.variants if v.source), channel.variants[0].name)
        variant = request.path_params.get("variant", source)
        return await self._media(session, variant, f"{request.base_url}v1/segment/")

    def _plain_session(self, channel: Channel) -> Session | None:
        stream = channel.newest_stream
        if not stream:
            return None
        key = f"plain-{channel.login}-{stream.id}-{stream.first}"
        if key not in self.world.sessions:
            options = Options(sequence_shift=0, token_ttl_s=86400)
            self.world.join(channel, options, key)
        return self.world.sessions[key]


def _init_pool(file: str) -> str:
    profile = file.removesuffix(".init.mp4")
    return "ad-fmp4" if profile == "ad" else profile


def _looped(channel: Channel, slot: Slot, met: int, back: int, first: int) -> Slot:
    """What a looping origin lists in the slot's place: the segments before the fault again."""
    if not back or slot.number < met:
        return slot
    return channel.slots[max(first, met - back + (slot.number - met) % back)]


def _is_gone(channel: Channel, slot: Slot) -> bool:
    stream = channel.newest_stream
    if stream is None or slot.stream_id != stream.id:
        return True
    newest = channel.slots[-1].end
    return newest - slot.end > stream.options.window_s + stream.options.keep_s


def _variables(query: dict[str, Any]) -> dict[str, Any]:
    variables = query.get("variables")
    return variables if isinstance(variables, dict) else {}


def _token(channel: Channel | None) -> dict[str, str] | None:
    if channel is None or channel.stream is None:
        return None
    value = json.dumps(
        {
            "adblock": False,
            "geoblock_reason": "",
            "hide_ads": False,
            "server_ads": True,
            "show_ads": True,
            "channel": channel.login,
            "channel_id": int(channel.user_id),
            "chansub": {"restricted_bitrates": []},
            "expires": int(time.time()) + 1200,
        }
    )
    return {"value": value, "signature": _sign(value)}


def _sign(value: str) -> str:
    return hmac.new(_SIGNING_KEY, value.encode(), hashlib.sha1).hexdigest()


def _is_signed(token: str, signature: str, login: str) -> bool:
    if not hmac.compare_digest(_sign(token).encode(), signature.encode()):
        return False
    fields = json.loads(token)
    return bool(fields["channel"] == login and fields["expires"] > time.time())


def _shell(channel: Channel | None) -> dict[str, Any]:
    if channel is None:
        return {
            "userDoesNotExist": "No such user",
            "reason": "UNKNOWN",
            "__typename": "UserDoesNotExist",
        }
    return {"id": channel.user_id, "login": channel.login, "displayName": channel.name}


def _metadata(channel: Channel | None) -> dict[str, Any] | None:
    if channel is None:
        return None
    game = {"id": channel.category_id, "name": channel.category} if channel.category else None
    stream = {"id": channel.stream.id, "type": "live", "game": game} if channel.stream else None
    return {"id": channel.user_id, "lastBroadcast": {"title": channel.title}, "stream": stream}


def _usher_error(status: int, code: str, text: str) -> Response:
    return JSONResponse([{"type": "error", "error": text, "error_code": code}], status)
