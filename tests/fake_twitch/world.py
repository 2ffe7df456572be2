"""What is live: channels, their streams, what has been published so far, and playback sessions.

All of it changes only in `Channel.advance` (time passes) and through the methods that the control
routes call. Times: `at` is epoch seconds, UTC; media times are seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from typing import Any

from tests.fake_twitch.mpegts import TICKS_PER_S
from tests.fake_twitch.streams import (
    DEFAULT_VARIANTS,
    AdBreak,
    Ending,
    Options,
    Slot,
    Stream,
    Variant,
)

# Counted, since many go live in one millisecond; from the clock, since databases outlive the fake.
_STREAM_IDS = count(40_000_000_000 + int(time.time() * 1000) % 10**10)


@dataclass
class Session:
    """One playback session: what one resolve got. Numbers belong to it, and so does its token."""

    id: str
    channel: Channel
    stream_id: str
    first: int
    """The stream's first slot, which has the number `shift`."""
    joined: int
    """The newest slot when the session began."""
    shift: int
    jitter_s: float
    expires: float
    preroll: AdBreak | None = None
    reset_at: int = 0
    """From this slot on numbers start over at 0; 0 is never."""

    def ad(self, slot: Slot) -> AdBreak | None:
        """The ad break that this session sees in the slot's place."""
        preroll = self.preroll
        if preroll and preroll.at <= slot.at < preroll.at + preroll.duration_s:
            return preroll
        return slot.ad

    def sequence(self, number: int) -> int:
        if self.reset_at and number >= self.reset_at:
            return number - self.reset_at
        return number - self.joined if self.preroll else number - self.first + self.shift


@dataclass
class Channel:
    login: str
    user_id: str
    name: str
    title: str = "A fake stream"
    category: str = "Software and Game Development"
    category_id: str = "1469308723"
    description: str = ""
    language: str = "en"
    tags: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = DEFAULT_VARIANTS
    options: Options = field(default_factory=Options)
    stream: Stream | None = None
    ending: Ending | None = None
    slots: list[Slot] = field(default_factory=list)
    changed_at: float = 0
    """When it last went online or offline."""
    history: list[Stream] = field(default_factory=list)
    """Every stream, oldest first; one that came back under its id stands there once."""
    on_event: Callable[[Channel, str], None] = lambda _channel, _kind: None

    def advance(self) -> None:
        """Publish what has become due."""
        stream = self.stream
        if stream is None or stream.paused or not stream.options.speed:
            return
        elapsed = (time.monotonic() - stream.anchor) * stream.options.speed
        due = stream.anchor_number + int(elapsed / stream.options.segment_s)
        while self.stream is stream and self._next < due:
            self.publish()

    def publish(self, count: int = 1) -> None:
        for _ in range(count):
            if self.stream is not None:
                self._append(self.stream)

    def go_online(self, options: Options, stream_id: str = "") -> Stream:
        """A new stream; the caller has made sure that none is live."""
        now = time.time()
        lead = options.backlog * options.segment_s
        rejoined = bool(self.slots) and self.slots[-1].stream_id == stream_id
        self.stream = Stream(
            id=stream_id or str(next(_STREAM_IDS)),
            options=options,
            started_at=now - lead,
            first=self._next,
            anchor=time.monotonic(),
            anchor_number=self._next + options.backlog,
            next_at=round(now - lead, 3),
            extra_ticks=round(options.pts_start_s * TICKS_PER_S),
            broken=rejoined,
            title=self.title,
        )
        self.ending, self.changed_at = None, now
        live = self.stream
        self.history = [stream for stream in self.history if stream.id != live.id] + [live]
        self.publish(options.backlog)
        self.on_event(self, "stream.online")
        return self.stream

    def go_offline(self, *, endlist: bool = True, linger_s: float = 30) -> None:
        """End the stream: ENDLIST in the playlists for `linger_s` seconds, or 404 at once."""
        self.advance()
        if self.stream:
            self._end(endlist, linger_s)

    def configure(self, **changes: Any) -> None:
        """Change options, of the live stream too; raises TypeError for one that does not exist."""
        self.advance()
        self.options = replace(self.options, **changes)
        if self.stream:
            self.stream.options = replace(self.stream.options, **changes)
            self.stream.anchor, self.stream.anchor_number = time.monotonic(), self._next

    def pause(self) -> None:
        """The streamer's encoder stalls: nothing new, no end."""
        self.advance()
        if self.stream:
            self.stream.paused = True

    def resume(self) -> None:
        """Go on after a pause; the dates show the hole."""
        if self.stream and self.stream.paused:
            self.stream.paused, self.stream.broken = False, True
            self.stream.anchor, self.stream.anchor_number = time.monotonic(), self._next
            self.stream.next_at = max(self.stream.next_at, round(time.time(), 3))

    def start_ads(self, segments: int, mark: str) -> None:
        """The next segments are ads; the content that they cover is never served."""
        self.advance()
        if self.stream:
            length = segments * self.stream.options.segment_s
            ad_id = f"stitched-ad-{self.login}-{self._next}"
            self.stream.ads_left = segments
            self.stream.ad = AdBreak(ad_id, self.stream.next_at, length, mark)

    def break_time(self, pts_jump_s: float, date_jump_s: float) -> None:
        """A DISCONTINUITY before the next segment, its timestamps and dates moved."""
        self.advance()
        if self.stream:
            self.stream.broken = True
            self.stream.extra_ticks += round(pts_jump_s * TICKS_PER_S)
            self.stream.next_at += date_jump_s

    def describe(self, title: str, category: str, category_id: str) -> None:
        self.advance()
        self.title, self.category, self.category_id = title, category, category_id
        self.on_event(self, "channel.update")

    def slot(self, number: int) -> Slot | None:
        """A published slot, or one that is announced as prefetch."""
        if 0 <= number < self._next:
            return self.slots[number]
        stream = self.stream
        if stream is None or not self._next <= number < self._next + stream.options.prefetch:
            return None
        ahead = (number - self._next) * stream.options.segment_s
        return replace(self._make(stream, number), at=stream.next_at + ahead)

    @property
    def newest_stream(self) -> Stream | None:
        """The one that is live, else the one that ended last."""
        return self.stream or (self.ending.stream if self.ending else None)

    @property
    def _next(self) -> int:
        return len(self.slots)

    def _make(self, stream: Stream, number: int) -> Slot:
        return Slot(
            number=number,
            stream_id=stream.id,
            at=stream.next_at,
            duration_s=stream.options.segment_s,
            unit=(number - stream.first) * stream.options.segment_s,
            ticks=stream.extra_ticks,
            title=self.title,
            category=self.category,
            variants=self.variants,
            ad=stream.ad if stream.ads_left else None,
            discontinuity=stream.broken,
        )

    def _append(self, stream: Stream) -> None:
        slot = self._make(stream, self._next)
        before = self.slots[-1] if self._next > stream.first else None
        if before and (before.ad != slot.ad or before.variants != slot.variants):
            slot = replace(slot, discontinuity=True)
        self.slots.append(slot)
        stream.next_at = round(slot.end, 3)
        stream.ads_left = max(0, stream.ads_left - 1)
        stream.broken = False
        if stream.options.length and self._next - stream.first >= stream.options.length:
            self._end(endlist=True, linger_s=30)

    def _end(self, endlist: bool, linger_s: float) -> None:
        assert self.stream
        now = time.time()
        self.stream.ended_at = now
        self.ending = Ending(self.stream, now, endlist, linger_s)
        self.stream, self.changed_at = None, now
        self.on_event(self, "stream.offline")


@dataclass
class World:
    """Everything there is; one per process."""

    seed: int = 1
    channels: dict[str, Channel] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    categories: dict[str, str] = field(default_factory=dict)
    """Every category that a channel ever had, name by id."""
    on_event: Callable[[Channel, str], None] = lambda _channel, _kind: None

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        self._user_ids = count(100_000_000)
        self._by_id: dict[str, Channel] = {}

    def channel(self, login: str) -> Channel | None:
        """The channel, brought up to date."""
        channel = self.channels.get(login.lower())
        if channel:
            channel.advance()
        return channel

    def by_id(self, user_id: str) -> Channel | None:
        """The channel as it stands."""
        return self._by_id.get(user_id)

    def add(self, login: str) -> Channel:
        """The channel; a new one if nobody has the login."""
        login = login.lower()
        if login not in self.channels:
            channel = Channel(login, str(next(self._user_ids)), login.capitalize())
            channel.on_event = self._forward
            self.channels[login] = self._by_id[channel.user_id] = channel
            self.categories[channel.category_id] = channel.category
        return self.channels[login]

    def rename(self, channel: Channel, login: str) -> None:
        del self.channels[channel.login]
        channel.login, channel.name = login.lower(), login.capitalize()
        self.channels[channel.login] = channel

    def remove(self, channel: Channel) -> None:
        """The account is gone, whatever it was doing."""
        del self.channels[channel.login], self._by_id[channel.user_id]

    def join(self, channel: Channel, options: Options, session_id: str = "") -> Session:
        """A new playback session with its own numbers."""
        stream = channel.newest_stream
        assert stream, "joined a channel that was never live"
        shift = options.sequence_shift
        session_id = session_id or f"{self._random.getrandbits(128):032x}"
        joined = max(stream.first, len(channel.slots) - 1)
        session = Session(
            id=session_id,
            channel=channel,
            stream_id=stream.id,
            first=stream.first,
            joined=joined,
            shift=self._random.randrange(5000) if shift < 0 else shift,
            jitter_s=round(self._random.uniform(-1, 1) * options.pdt_jitter_s, 3),
            expires=time.time() + options.token_ttl_s,
        )
        if options.preroll and channel.slots:
            length = options.preroll * options.segment_s
            name = f"stitched-ad-preroll-{session_id[:8]}"
            session.preroll = AdBreak(name, channel.slots[joined].at, length)
        self.sessions[session_id] = session
        return session

    def _forward(self, channel: Channel, kind: str) -> None:
        self.categories[channel.category_id] = channel.category
        self.on_event(channel, kind)
