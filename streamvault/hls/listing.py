"""Follows the playlist of a live stream: what is new, whether it stalls, whether it has ended.

Polls one playback session, asks for another when that one fails or falls silent, and puts what has
to be done into the waiting list, in the order of the stream.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from streamvault.contracts import CaptureEnd, GapCause
from streamvault.errors import EncryptedStream, FetchFailed, PlaylistError, SourceError
from streamvault.hls.alignment import Cursor, Listed, Missing
from streamvault.hls.download import Health, Hole, Joined, Waiting, WaitingList
from streamvault.hls.ending import EndWatch, Verdict
from streamvault.hls.fetch import Fetcher
from streamvault.hls.playlist import MediaPlaylist, PlaylistReader, Segment
from streamvault.hls.records import (
    FORMAT_VERSION,
    Gap,
    PendingResumed,
    Record,
    Resumed,
    SessionStarted,
    Trouble,
)
from streamvault.hls.sessions import Sessions
from streamvault.hls.thresholds import Thresholds
from streamvault.hls.watching import Watching
from streamvault.source import Playback, Transport

REFUSED = {401, 403}
GONE = {404, 410}


class NotSegmented(Exception):
    """The source is no HLS; `playback` says how it can be read. Stays inside the recorder."""

    def __init__(self, playback: Playback) -> None:
        super().__init__()
        self.playback = playback


class Listing:
    def __init__(
        self,
        sessions: Sessions,
        *,
        fetcher: Fetcher,
        waiting: WaitingList,
        health: Health,
        watch: EndWatch,
        watching: Watching,
        cursor: Cursor,
        thresholds: Thresholds,
        remember: Callable[[Playback], Awaitable[None]] | None = None,
        note_waiting: Callable[[], None],
        note: Callable[[Sequence[Record]], None],
    ) -> None:
        self._sessions = sessions
        self._fetcher = fetcher
        self._waiting = waiting
        self._health = health
        self._health.alarm = self.wake
        self._watch = watch
        self._watching = watching
        self._cursor = cursor
        self._thresholds = thresholds
        self._remember = remember
        self._note_waiting = note_waiting
        self._note = note
        self._pending: list[Segment] = []
        self._notes: list[Record] = []
        self._last_url = ""
        self._joined = False
        self._failures = 0
        self._refused = False
        self._wake = asyncio.Event()
        self._began = time.monotonic()
        self._target_s = 0.0
        self._segment_s = 0.0
        self._text = ""
        self._reader = PlaylistReader()
        self._ended = False
        self._behind_since: float | None = None
        self._repeats = 0
        self._looked_at = 0.0
        self._resumed: Callable[[int, float], Record] | None = None
        self._cut = ""
        self.trouble: GapCause | None = None
        """What a hole that shows up next is put down to."""

    @property
    def playback(self) -> Playback | None:
        return self._sessions.playback

    @property
    def failing(self) -> bool:
        return self._failures > 0 or self.playback is None

    def resumed(self, torn_bytes: int, why: str, cause: GapCause, next_number: int | None) -> None:
        """The capture goes on after an interruption; say so in the journal once it does."""
        self.trouble = cause
        known = self._sessions.known is not None
        self._resumed = lambda number, gap_s: Resumed(
            number, known and self._sessions.number <= 1, torn_bytes, gap_s, time.time(), why
        )
        self._cursor.new_session(next_number if known else None)

    def preload(self, pending: Sequence[Segment], torn_bytes: int) -> None:
        """Listed before the interruption: these come first, even if they left the list."""
        if not pending:
            return
        self._pending = list(pending)
        self._cursor.taken_until(pending[-1])
        self._notes = [PendingResumed(len(pending), pending[0].number, torn_bytes)]
        known = self._sessions.known
        if known is not None:
            self._put(Joined(known, self._take_notes(pending[0].number, 0.0)), known)
            self._put_pending(known)

    def _take_notes(self, number: int, gap_s: float) -> tuple[Record, ...]:
        """What the journal still has to be told of the interruption."""
        resumed, self._resumed = self._resumed, None
        notes, self._notes = self._notes, []
        return (*([resumed(number, gap_s)] if resumed else []), *notes)

    def _put_pending(self, playback: Playback) -> None:
        for segment in self._pending:
            self._put(Listed(segment, joins=segment is self._pending[0]), playback)
        self._pending = []

    def restart(self, reason: str) -> None:
        """Ask for a new session now; what it lists goes to a new part."""
        self._resumed = lambda number, gap_s: Resumed(number, False, 0, gap_s, time.time(), reason)
        self._cut = "restart"
        self._sessions.drop()
        self._wake.set()

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> tuple[CaptureEnd, str]:
        """Follow until the stream has ended.

        Raises NotSegmented, and permanent SourceErrors before anything was stored.
        """
        try:
            while True:
                self._see_to_session()
                if self.playback is not None:
                    await self._look_by_its_way(self.playback)
                self._watch_over()
                if end := self._end():
                    return end
                await self._pause()
        finally:
            self._sessions.close()

    # ---- sessions

    def _see_to_session(self) -> None:
        adopted = self._sessions.see_to(self._wants_session, self._wake.set)
        if adopted is not None:
            self._adopt(adopted)
        if self._sessions.goes_another_way:
            self.trouble = GapCause.PROXY
        elif self._sessions.failing:
            self.trouble = self.trouble or GapCause.NETWORK

    def _wants_session(self) -> bool:
        limits, now = self._thresholds, time.monotonic()
        return (
            self._refused
            or self._failures >= limits.playlist_failures
            or self._health.lost_in_a_row >= limits.lost_in_a_row
            or self._health.repeats >= limits.repeats
            or self._watch.away
            or now - self._watch.fresh_at >= max(limits.stall_resolve_s, self._stall_s)
            or self._watching.asks_again()
            or self._stores_nothing(now)
        )

    def _stores_nothing(self, now: float) -> bool:
        first = self._waiting.first_segment()
        # Not since the last one was stored alone: before this one there may have been ads.
        idle_s = self._thresholds.idle_resolve_s
        return first is not None and now - max(first.since, self._health.stored_at) >= idle_s

    @property
    def _stall_s(self) -> float:
        # TARGETDURATION is no measure: Twitch says 6 for segments of 2 s.
        return max(self._thresholds.stall_s, 3 * self._segment_s)

    def _adopt(self, playback: Playback) -> None:
        if playback.transport is not Transport.HLS:
            raise NotSegmented(playback)
        self._failures = 0
        self._refused = False
        self._health.lost_in_a_row = self._health.repeats = 0
        self._text = ""
        if self._sessions.is_new:
            self._joined = False
            self._behind_since = None
            if self._sessions.number > 1:
                again = playback.playlist_url == self._last_url
                self._cursor.new_session(self._cursor.next_number if again else None)
        self._last_url = playback.playlist_url

    def _watch_over(self) -> None:
        now = time.monotonic()
        first = self._waiting.first_segment()
        changes = self._watching.look(
            now,
            fresh_at=self._watch.fresh_at,
            segment_s=self._segment_s,
            waiting_since=first.since if first is not None else None,
            repeats=self._health.repeats,
            away=self._watch.away,
        )
        # What is stored looks by itself whether somebody else wants the recording.
        idle = now - max(self._health.stored_at, self._looked_at) >= self._thresholds.look_s
        if (changes and self._health.stored) or idle:
            self._looked_at = now
            self._note([Trouble(time.time(), text, sign) for sign, text in changes])

    # ---- one look at the playlist

    async def _look_by_its_way(self, playback: Playback) -> None:
        """A look takes seconds where a proxy has died: a session by another way, for which its
        segments may have asked meanwhile, ends it."""
        if not playback.proxy_id:
            await self._look(playback)
            return
        look = asyncio.create_task(self._look(playback))
        try:
            while not look.done() and self.playback is playback:
                await self._done_or_woken(look)
                if not look.done():
                    self._see_to_session()
            if look.done():
                look.result()
        finally:
            look.cancel()

    async def _done_or_woken(self, look: asyncio.Task[None]) -> None:
        woken = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({look, woken}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
        self._wake.clear()

    async def _look(self, playback: Playback) -> None:
        try:
            playlist = await self._fetch(playback)
        except (FetchFailed, PlaylistError) as error:
            self._look_failed(playback, error)
            return
        self._failures = 0
        self._health.answered()
        if playlist is not None:
            await self._listed(playback, playlist)
        self._watch.saw_playlist(time.monotonic(), ended=self._ended)

    async def _fetch(self, playback: Playback) -> MediaPlaylist | None:
        """None: the same text as before."""
        stalled = time.monotonic() - self._watch.fresh_at >= self._stall_s
        page = await self._fetcher.get_text(
            playback.playlist_url,
            headers=playback.headers,
            proxy=playback.proxy,
            timeout_s=self._timeout_s(playback),
            fresh=self._failures > 0 or stalled,
        )
        if page.text == self._text:
            return None
        playlist = self._reader.read(page.text, page.url)
        self._text = page.text
        return playlist

    def _timeout_s(self, playback: Playback) -> float:
        limits = self._thresholds
        return limits.proxy_timeout_s if playback.proxy_id else limits.playlist_timeout_s

    def _look_failed(self, playback: Playback, error: FetchFailed | PlaylistError) -> None:
        if isinstance(error, EncryptedStream) and not self._health.stored:
            raise error
        self._failures += 1
        self._health.went_wrong(f"the playlist: {error}", by_answer=_is_answer(error))
        self.trouble = _cause(error)
        if isinstance(error, FetchFailed):
            # A playlist is small: one that does not come is enough to try another proxy.
            self._health.transfer_failed(playback, error, weight=2)
            self._refused = error.status in REFUSED
            if error.status in GONE:
                self._watch.saw_no_playlist(time.monotonic())
        if not self._joined and self._sessions.is_of_earlier_run:
            # It is over; there is no reason to wait for a new one.
            self._sessions.drop()

    async def _listed(self, playback: Playback, playlist: MediaPlaylist) -> None:
        if self._ended and not playlist.ended:
            # The same address after its ENDLIST: a new broadcast, whose numbers say nothing.
            self._cursor.new_session()
        self._ended = playlist.ended
        self._target_s = playlist.target_duration_s
        self._leave_loop()
        taken = self._cursor.take(playlist)
        self._check_clock(playlist, taken)
        if self._cut or (not self._joined and (taken or self._cursor.aligned)):
            await self._join(playback, playlist, taken)
        elif not self._joined:
            # Nothing new, and what waits need not go on waiting for the session before.
            self._replace_waiting(playback, playlist)
        for item in taken:
            self._put(self._hole(item) if isinstance(item, Missing) else item, playback)
        self._mark_late(playlist)
        if taken:
            self._note_waiting()
            self._segment_s = playlist.segments[-1].duration_s
            now = time.monotonic()
            self._watch.saw_segments(now)
            self._watching.listed(now, only_ads=_only_ads(taken))
            self.trouble = None

    def _leave_loop(self) -> None:
        """Numbers of a source that repeats itself stand for nothing: go on by date."""
        repeats, until = self._health.repeats, self._health.stored_until
        if repeats > self._repeats and until is not None:
            waiting = [w.segment.end_date or 0.0 for w in self._waiting if w.segment is not None]
            self._cursor.go_back_to(max(until, *waiting, 0.0))
        self._repeats = repeats

    def _put(self, item: Listed | Hole | Joined, playback: Playback) -> None:
        self._waiting.put(Waiting(item, playback, self._sessions.number))

    async def _join(
        self, playback: Playback, playlist: MediaPlaylist, taken: Sequence[Listed | Missing]
    ) -> None:
        self._joined = True
        records: list[Record] = [
            SessionStarted(
                FORMAT_VERSION, playback.playlist_url, time.time(), playlist.target_duration_s
            )
        ]
        gap_s = sum(item.duration_s for item in taken if isinstance(item, Missing))
        records += self._take_notes(playlist.media_sequence, gap_s)
        cut, self._cut = self._cut, ""
        self._put(Joined(playback, tuple(records), cut), playback)
        self._put_pending(playback)
        self._replace_waiting(playback, playlist)
        if self._remember is not None:
            await self._remember(playback)

    def _replace_waiting(self, playback: Playback, playlist: MediaPlaylist) -> None:
        """What waits from the session before is fetched by this one's address, if listed; and by
        this one's way in any case, if the other one let us down."""
        for waiting in self._waiting:
            listed = _same_in(playlist, waiting)
            if listed is not None:
                waiting.item = listed
                waiting.session = self._sessions.number
            if listed is not None or self._sessions.replaced_let_down:
                waiting.move_to(playback, at_once=self._sessions.replaced_let_down)

    def _hole(self, missing: Missing) -> Hole:
        cause = GapCause.SOURCE if self._watch.away else self.trouble
        if cause is None:
            # Polls went well, so either we are far behind, or the source skipped.
            cause = GapCause.NETWORK if len(self._waiting) > 1 else GapCause.SOURCE
        gap = Gap(
            missing.number, missing.count, missing.date, missing.duration_s, "window", cause,
            time.time(),
        )  # fmt: skip
        return Hole(gap, cut=missing.by_date)

    def _mark_late(self, playlist: MediaPlaylist) -> None:
        ahead = None
        for waiting in self._waiting:
            segment = waiting.segment
            if segment is not None and waiting.session == self._sessions.number:
                waiting.late = segment.number < playlist.media_sequence
                if ahead is None:
                    ahead = (segment.number - playlist.media_sequence) * segment.duration_s
        self._waiting.pressed = ahead is not None and ahead < self._thresholds.margin_s

    def _check_clock(self, playlist: MediaPlaylist, taken: Sequence[Listed | Missing]) -> None:
        """A clock that was set back lists nothing that is new by its date, for ever."""
        if taken or self._cursor.aligned or not playlist.segments:
            self._behind_since = None
            return
        now = time.monotonic()
        if self._behind_since is None:
            self._behind_since = now
        elif now - self._behind_since >= self._thresholds.clock_back_s and not playlist.ended:
            self._cursor.accept_older()
            self._cut = self._cut or "date"
            self._behind_since = None

    # ---- the end

    def _end(self) -> tuple[CaptureEnd, str] | None:
        now = time.monotonic()
        verdict, reason = self._watch.verdict(now)
        if verdict is Verdict.ENDED:
            return CaptureEnd.ENDED, reason
        if self._health.stored:
            return None
        limits = self._thresholds
        since = now - max(self._began, self._watch.fresh_at)
        senseless = self._health.by_answer and now - self._began >= limits.broken_start_s
        if senseless or since >= limits.silent_start_s:
            return CaptureEnd.NOTHING, self._health.problem or "no segment came"
        return None

    async def _pause(self) -> None:
        alarm = asyncio.get_running_loop().call_later(self._pause_s, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            alarm.cancel()
        self._wake.clear()

    @property
    def _pause_s(self) -> float:
        limits = self._thresholds
        if self._failures:
            # At most the usual pace: of what is away, each second counts once it is back.
            doubled_s = limits.playlist_retry_s * 2.0 ** min(self._failures - 1, 10)
            return min(doubled_s, limits.poll_max_s)
        if self.playback is None:
            return limits.playlist_retry_s
        return min(max(self._target_s / 2, limits.poll_min_s), limits.poll_max_s)


def _is_answer(error: SourceError) -> bool:
    return isinstance(error, PlaylistError) or (
        isinstance(error, FetchFailed) and 400 <= error.status < 500
    )


def _cause(error: FetchFailed | PlaylistError) -> GapCause:
    if isinstance(error, FetchFailed) and not error.status:
        return GapCause.PROXY if error.by_proxy else GapCause.NETWORK
    return GapCause.PLAYLIST


def _only_ads(taken: Sequence[Listed | Missing]) -> bool:
    return all(isinstance(item, Listed) and item.segment.ad for item in taken)


def _same_in(playlist: MediaPlaylist, waiting: Waiting) -> Listed | None:
    """What waits, at its address in another session's playlist; None: it is not listed there."""
    item, old = waiting.item, waiting.segment
    if old is None or old.date is None or not isinstance(item, Listed):
        return None
    for new in playlist.segments:
        if new.date is not None and abs(new.date - old.date) < old.duration_s / 2:
            return Listed(_at_address_of(old, new), item.hole_s, item.back, item.joins)
    return None


def _at_address_of(old: Segment, new: Segment) -> Segment:
    return Segment(
        number=new.number,
        uri=new.uri,
        duration_s=old.duration_s,
        date=old.date,
        discontinuity=old.discontinuity,
        ad=old.ad,
        init=new.init,
        byte_range=new.byte_range,
        ad_kind=old.ad_kind,
    )
