"""The recording as an HLS EVENT playlist of byte ranges over its parts, while it still grows.

Short segments are grouped into entries of at least 6 s: an overnight playlist is read again every
few seconds by every viewer. Where an entry ends follows from the journal alone, and published text
never changes (RFC 8216 §6.2.1), so that a restart serves the same playlist.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from streamvault.hls.records import (
    AdSkipped,
    Ended,
    Gap,
    InitStored,
    PartOpened,
    Record,
    Resumed,
    SegmentStored,
    SessionStarted,
)

GROUP_S = 6.0
TARGET_DURATION_S = 10
"""Fixed from the start, as it must never change; groups of 2 s to 4 s segments fit into it."""


@dataclass(slots=True)
class _Entry:
    part: str
    offset: int
    length: int
    date: float | None
    duration_s: float

    @property
    def end(self) -> int:
        return self.offset + self.length


class LivePlaylist:
    """Feed it every record of a journal in order; `text` is the playlist of the records so far."""

    def __init__(self, part_url: Callable[[str], str], records: Iterable[Record] = ()) -> None:
        """`part_url` gives the address of a part by its file name, absolute or relative."""
        self._part_url = part_url
        self._target_s: int | None = None
        self._part: PartOpened | None = None
        self._init: str = ""
        self._group: _Entry | None = None
        self._discontinuity = False
        self._ended = False
        self._mapped = False
        self._entries: list[str] = []
        self._bytes: dict[str, int] = {}
        self._handlers: dict[type[Record], Callable[[Any], None]] = {
            SessionStarted: self._session_started,
            PartOpened: self._part_opened,
            InitStored: self._init_stored,
            SegmentStored: self._segment_stored,
            AdSkipped: self._interrupted,
            Gap: self._interrupted,
            Resumed: self._resumed,
            Ended: self._finished,
        }
        for record in records:
            self.feed(record)

    def feed(self, record: Record) -> None:
        handle = self._handlers.get(type(record))
        if handle is not None:
            handle(record)

    def bytes_of(self, file_name: str) -> int:
        """How much of a part the journal vouches for; 0 for one that it does not know."""
        return self._bytes.get(file_name, 0)

    @property
    def is_empty(self) -> bool:
        """Nothing to play yet: most players refuse a playlist without entries."""
        return not self._entries

    def text(self) -> str:
        """The playlist; every entry holds only bytes that the journal vouches for."""
        version = 7 if self._mapped else 4
        head = (
            f"#EXTM3U\n#EXT-X-VERSION:{version}\n"
            f"#EXT-X-TARGETDURATION:{self._target_s or TARGET_DURATION_S}\n"
            "#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:EVENT\n"
        )
        return "".join((head, *self._entries, "#EXT-X-ENDLIST\n" if self._ended else ""))

    # ---- records

    def _session_started(self, record: SessionStarted) -> None:
        self._ended = False
        if self._target_s is None and record.target_duration_s:
            self._fix_target(record.target_duration_s)

    def _fix_target(self, source_target_s: float) -> None:
        self._target_s = max(TARGET_DURATION_S, math.ceil(source_target_s))

    def _part_opened(self, record: PartOpened) -> None:
        self._ended = False
        self._interrupted(record)
        self._part = record
        self._init = ""

    def _init_stored(self, record: InitStored) -> None:
        if self._part is None:
            return
        self._close_group()
        self._bytes[self._part.file_name] = record.offset + record.length
        uri = self._part_url(self._part.file_name)
        self._init = f'#EXT-X-MAP:URI="{uri}",BYTERANGE="{record.length}@{record.offset}"\n'
        self._mapped = True

    def _segment_stored(self, record: SegmentStored) -> None:
        if self._part is None:
            return
        self._ended = False
        self._bytes[self._part.file_name] = record.offset + record.length
        if self._target_s is None:
            self._fix_target(record.duration_s)
        if record.discontinuity:
            self._interrupted(record)
        if self._group is not None and not self._fits(self._group, record):
            self._close_group()
        self._group = _grown(self._group, record, self._part.file_name)
        # The very first segment stands alone, so that a viewer need not wait for a whole group.
        if self._group.duration_s >= GROUP_S or not self._entries:
            self._close_group()

    def _fits(self, group: _Entry, record: SegmentStored) -> bool:
        """Whether the group still adjoins and stays within the target (rounded, §4.3.3.1)."""
        longest_s = (self._target_s or TARGET_DURATION_S) + 0.49
        return record.offset == group.end and group.duration_s + record.duration_s < longest_s

    def _interrupted(self, _record: Record) -> None:
        """A gap, an ad break, a discontinuity, a new part: what comes next does not adjoin."""
        self._close_group()
        self._discontinuity = bool(self._entries)

    def _resumed(self, _record: Resumed) -> None:
        self._ended = False

    def _finished(self, _record: Ended) -> None:
        self._close_group()
        self._ended = True

    def _close_group(self) -> None:
        group = self._group
        if group is None:
            return
        self._group = None
        lines = ["#EXT-X-DISCONTINUITY\n"] if self._discontinuity else []
        lines.append(self._init)
        if group.date is not None:
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{_date(group.date)}\n")
        lines.append(
            f"#EXTINF:{group.duration_s:.3f},\n"
            f"#EXT-X-BYTERANGE:{group.length}@{group.offset}\n{self._part_url(group.part)}\n"
        )
        self._entries.append("".join(lines))
        self._discontinuity = False
        self._init = ""


def _grown(group: _Entry | None, record: SegmentStored, part: str) -> _Entry:
    if group is None:
        return _Entry(part, record.offset, record.length, record.date, record.duration_s)
    group.length += record.length
    group.duration_s += record.duration_s
    return group


def _date(epoch_s: float) -> str:
    text = datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"
