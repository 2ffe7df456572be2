"""Which recordings stand still, by what their recorders save. Pure: times are monotonic seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from streamvault.contracts import Status
from streamvault.db import watch
from streamvault.db.watch import Unfinished

STALL_S = 30.0
COOL_DOWN_S = 60.0
# Two looks are missed and a bit: of the time before this one nothing is known.
LATE_S = 40.0


@dataclass
class _Track:
    """How far a recording was when somebody last looked, and since when."""

    reached: tuple[float, int, int, int]
    told_at: datetime | None
    looked_at: float
    since: float | None
    """None while its recorder does not tell."""
    restarted_at: float = -COOL_DOWN_S

    def look(self, row: Unfinished, now: float) -> None:
        """Time counts only while the recorder tells of it again and again: a row that stands still
        because the recorder or the database was away says nothing of the capture."""
        if row.progress_at == self.told_at:
            self.since = None
        elif self.since is None or row.reached != self.reached or now - self.looked_at > LATE_S:
            self.since = now
        self.reached, self.told_at, self.looked_at = row.reached, row.progress_at, now

    def stands_s(self, now: float) -> float:
        return 0.0 if self.since is None else now - self.since


@dataclass
class Stalls:
    _tracks: dict[UUID, _Track] = field(default_factory=dict)

    def see(self, rows: Sequence[Unfinished], now: float) -> list[Unfinished]:
        """Those that are to be restarted now. One that is reconnecting by itself is given twice the
        time; before its first segment a recording does not stall."""
        captured = {row.id: row for row in rows if row.status in watch.CAPTURING}
        self._tracks = {key: track for key, track in self._tracks.items() if key in captured}
        return [row for row in captured.values() if self._stalls(row, now)]

    def _stalls(self, row: Unfinished, now: float) -> bool:
        track = self._tracks.get(row.id)
        if track is None:
            track = self._tracks[row.id] = _Track(row.reached, row.progress_at, now, now)
        else:
            track.look(row, now)
        patience_s = 2 * STALL_S if row.status == Status.RECONNECTING else STALL_S
        if not row.duration_s or track.stands_s(now) < patience_s:
            return False
        if now - track.restarted_at < COOL_DOWN_S:
            return False
        track.restarted_at = now
        return True
