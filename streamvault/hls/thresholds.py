"""When a capture reacts: every time constant of protocol and watchdog, in seconds.

Live playlists of Twitch say TARGETDURATION 6 with segments of 2 s and list about 30 s, so what is
listed is gone half a minute later: all reactions must fit into that window.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Thresholds:
    # A poll costs 0.2 ms; each second between polls is one that a restart cannot use.
    poll_min_s: float = 1.0
    poll_max_s: float = 2.0
    playlist_timeout_s: float = 5.0
    playlist_retry_s: float = 0.5
    """Doubles up to `poll_max_s`."""
    playlist_failures: int = 3
    """So many in a row, and the source is resolved again."""

    segment_timeout_s: float = 20.0
    segment_idle_s: int = 6
    """Slower than 4 kB/s for so long: a new connection."""
    segment_deadline_s: float = 15.0
    """A segment that fails while others arrive is given up after this."""
    segment_retry_s: float = 0.3
    """Doubles up to 4 s."""
    segment_gone_answers: int = 4
    """403, 404 or 410 this often: gone (1 try and 3 more within about 2 s)."""
    lost_in_a_row: int = 3
    """So many segments lost one after the other, and the source is resolved again."""
    backlog: int = 4
    """More waiting than this: followers are fetched in parallel."""
    followers: int = 4
    slow_segment_s: float = 2.5
    """The first in line takes longer: its followers are fetched meanwhile."""
    margin_s: float = 10.0
    """What is to be fetched leaves the playlist this soon: followers are fetched in parallel."""

    proxy_timeout_s: float = 3.0
    """For a playlist by a proxy: another one may be better."""
    proxy_idle_s: int = 2
    proxy_failures: int = 2
    """So many in a row, or one of the proxy itself, and another one is taken."""

    stall_s: float = 6.0
    """Nothing new (or 3 segments long): a new connection for the playlist."""
    stall_resolve_s: float = 10.0
    idle_resolve_s: float = 20.0
    """Listed but nothing stored."""
    resolve_every_s: float = 10.0
    """Not more often than this, except when told to."""
    resolve_again_s: float = 1.0
    """Without a session that works; doubles up to `resolve_every_s`."""
    better_s: float = 30.0
    """A variant that could not be looked at may be the best one: asked for again after this."""
    resolve_timeout_s: float = 30.0
    repeats: int = 2
    """Segments whose content was stored before: the source loops, it is resolved again."""
    clock_back_s: float = 20.0
    """The stream's clock stays behind what is stored: its clock was set back, go on from here."""

    behind_s: float = 15.0
    """What is listed waits this long to be stored; the window is twice as long."""
    bitrate_share: float = 0.2
    bitrate_segments: int = 3
    bitrate_span_s: float = 300.0
    """The usual bitrate is the median over this time."""
    bitrate_known_s: float = 60.0
    only_ads_s: float = 240.0
    room_s: float = 30.0
    """The disk's room is looked at this often."""

    gap_s: float = 0.5
    """Less is the jitter of dates and timestamps, not a gap."""
    part_s: float = 12 * 3600.0
    """MPEG-TS timestamps wrap after 26.5 h; a part stays well below."""

    gone_s: float = 30.0
    """A playlist that is 404 for so long says that the stream has ended."""
    notice_s: float = 20.0
    """A notice "offline" is void when segments are still listed this much later."""
    silence_s: float = 600.0
    """Nothing new and no second witness: the end."""
    plain_silence_s: float = 300.0
    """The same for a bare playlist, of which nobody else knows anything."""
    broken_start_s: float = 20.0
    """Answers that make no sense before the first segment."""
    silent_start_s: float = 120.0
    """No answer, or no segment, before the first one."""
    drain_s: float = 40.0
    """What is listed when the stream has ended is still fetched for so long."""

    look_s: float = 3.0
    """While nothing is stored: whether another recorder is to have the recording."""
    takeover_s: float = 8.0
    """A recorder that is to leave a recording to us looks with every segment, and needs a moment
    to close its files; one that did not by then is stopped or hangs."""

    reader_idle_s: float = 60.0
    """A source without segments is watched by its bytes."""
