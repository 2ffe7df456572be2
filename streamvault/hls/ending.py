"""Whether a stream has ended, from witnesses that can each be wrong.

A frozen or missing playlist looks the same as an end, so two witnesses must agree: the playlist
(ENDLIST, or 404 for half a minute), the player token, and notices from outside, of which each
reason counts once. Then a grace begins in which the stream may come back. Only another stream in
its place ends one at once. Pure: the caller passes monotonic seconds.
"""

from __future__ import annotations

from enum import StrEnum

from streamvault.hls.thresholds import Thresholds


class Verdict(StrEnum):
    LIVE = "live"
    AWAY = "away"
    ENDED = "ended"


class EndWatch:
    """`plain`: a bare playlist, whose ENDLIST has no second witness and needs none."""

    def __init__(
        self, thresholds: Thresholds, end_grace_s: float, now: float, *, plain: bool
    ) -> None:
        self._thresholds = thresholds
        self._end_grace_s = end_grace_s
        self._plain = plain
        self._fresh_at = now
        self._gone_since: float | None = None
        self._away_since: float | None = None
        self._playlist = ""
        self._notices: dict[str, float] = {}
        self._token = ""
        self._replaced = ""

    @property
    def fresh_at(self) -> float:
        """When something new was last listed."""
        return self._fresh_at

    @property
    def away(self) -> bool:
        return self._away_since is not None

    def saw_segments(self, now: float) -> None:
        """Something new is listed: whatever spoke for an end was wrong, or is over."""
        self._fresh_at = now
        self._away_since = self._gone_since = None
        self._playlist = self._token = ""
        void_before = now - self._thresholds.notice_s
        self._notices = {why: at for why, at in self._notices.items() if at >= void_before}

    def saw_playlist(self, now: float, *, ended: bool) -> None:
        self._gone_since = None
        self._playlist = "the playlist has ended" if ended else ""
        self._decide(now)

    def saw_no_playlist(self, now: float) -> None:
        """404 or 410 for the playlist."""
        if self._gone_since is None:
            self._gone_since = now
        elif now - self._gone_since >= self._thresholds.gone_s:
            self._playlist = "the playlist is gone"
        self._decide(now)

    def heard_notice(self, now: float, reason: str) -> None:
        self._notices[reason or "reported offline"] = now
        self._decide(now)

    def heard_of_another(self, reason: str) -> None:
        """The source is on another stream by now: this one cannot come back."""
        self._replaced = reason

    def saw_no_stream(self, now: float) -> None:
        """The source's player says that nothing is live."""
        self._token = "the player says offline"
        self._decide(now)

    def verdict(self, now: float) -> tuple[Verdict, str]:
        """The verdict, and for an end its reason in plain words."""
        if self._replaced:
            return Verdict.ENDED, self._replaced
        self._decide(now)
        silence_s = self._thresholds.plain_silence_s if self._plain else self._thresholds.silence_s
        if self._away_since is not None:
            ended = now - self._away_since >= self._end_grace_s
            return (Verdict.ENDED if ended else Verdict.AWAY), self._reason
        if now - self._fresh_at >= silence_s:
            return Verdict.ENDED, self._reason or f"nothing new for {silence_s:g} s"
        return Verdict.LIVE, self._reason

    @property
    def _reason(self) -> str:
        return ", ".join(filter(None, (self._playlist, *self._notices, self._token)))

    def _decide(self, now: float) -> None:
        seen = sum(map(bool, (self._playlist, self._token)))
        # Twitch's services repeat each other's mistakes: what is still listed outweighs notices.
        silent = now - self._fresh_at >= self._thresholds.stall_s
        told = len(self._notices) if seen or silent else 0
        enough = seen + told >= 2 or (self._plain and bool(self._playlist))
        if enough and self._away_since is None:
            self._away_since = now
