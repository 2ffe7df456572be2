"""What a recording holds, counted against the source's own segments; and the table of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.product import Up
from tests.fake_twitch.client import FakeChannel

JITTER_S = 0.1


@dataclass(frozen=True)
class Account:
    """One recording against its source."""

    lost: tuple[int, ...]
    """Numbers of the source's content segments that are not in the parts."""
    damaged: tuple[int, ...]
    """Those that are there with some bytes of them changed."""
    foreign_bytes: int
    """In the parts, but not where the source has them: doubled or torn."""
    true_gap_s: float
    told_gap_s: float
    told_gaps: tuple[str, ...]
    """The cause of each."""
    told_lost: int
    true_ad_s: float
    told_ad_s: float

    @property
    def is_honest(self) -> bool:
        """The report says exactly what is missing."""
        return (
            not self.foreign_bytes
            and self.told_lost == len(self.lost)
            and abs(self.true_gap_s - self.told_gap_s) < JITTER_S
            and abs(self.true_ad_s - self.told_ad_s) < JITTER_S
        )


def account(up: Up, recording_id: str, channel: FakeChannel, variant: str = "") -> Account:
    """Of a recording that has ended and whose parts are still there."""
    row = up.recording(recording_id)
    parts = part_bytes(up.library, recording_id)
    lost: list[int] = []
    damaged: list[int] = []
    lost_s, at = 0.0, 0
    truth = channel.truth(variant)
    for segment in truth:
        if segment.ad:
            continue
        body = channel.raw(segment.number, variant)
        found = parts[at : at + len(body)]
        if found == body:
            at += len(body)
        elif _is_nearly(found, body):
            damaged.append(segment.number)
            at += len(body)
        else:
            lost.append(segment.number)
            lost_s += segment.duration_s
    totals = row["totals"]
    return Account(
        lost=tuple(lost),
        damaged=tuple(damaged),
        foreign_bytes=len(parts) - at,
        true_gap_s=lost_s,
        told_gap_s=totals["gap_s"],
        told_gaps=tuple(gap["cause"] for gap in row["gaps"]),
        told_lost=totals["segments_lost"],
        true_ad_s=sum(segment.duration_s for segment in truth if segment.ad),
        told_ad_s=totals["ad_s"],
    )


def _is_nearly(found: bytes, body: bytes) -> bool:
    if len(found) != len(body):
        return False
    return sum(a != b for a, b in zip(found, body, strict=True)) < len(body) / 1000


def part_bytes(library: Path, recording_id: str) -> bytes:
    """Every part in order as it lies on the disk, without initialisation sections."""
    (folder,) = library.rglob(f".streamvault/{recording_id}")
    return b"".join(path.read_bytes() for path in sorted(folder.glob("part-*")))


@dataclass
class Scenario:
    """One fault: what is done to a channel, and what may come of it."""

    row: str
    """Of the table of faults."""
    words: str
    play: Callable[[FakeChannel], None]
    """Returns when the fault is over."""
    may_lose: int = 0
    causes: frozenset[str] = frozenset()
    """Of the gaps that there may be."""
    damaged: int = 0
    """Segments whose payload the source has spoilt: nobody can see that, and they are kept."""
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Played:
    scenario: Scenario
    channel: FakeChannel
    recording_id: str = ""
    recovered_s: float = 0.0
    error: str = ""


def play_all(
    up: Up, channels: Sequence[FakeChannel], scenarios: Sequence[Scenario]
) -> list[Played]:
    """All at once, each on a channel of its own; every stream has ended afterwards."""
    played = [Played(s, c) for s, c in zip(scenarios, channels, strict=True)]
    threads = [threading.Thread(target=_play, args=(up, each), daemon=True) for each in played]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    return played


def _play(up: Up, played: Played) -> None:
    channel = played.channel
    try:
        channel.online(**played.scenario.options)
        played.recording_id = up.record(url=channel.url)["id"]
        wait_stored(up, played.recording_id, 4)
        played.scenario.play(channel)
        played.recovered_s = recovery_s(up, played.recording_id, channel)
        wait_stored(up, played.recording_id, channel.segments)
        channel.offline()
        up.wait_status(played.recording_id, "processing", timeout_s=90)
    except (AssertionError, TimeoutError, httpx.HTTPError) as error:
        played.error = str(error)[:2000]


def wait_stored(up: Up, recording_id: str, accounted: int, timeout_s: float = 60) -> None:
    """Until so many segments are stored, or told to be lost or ads."""
    deadline = time.monotonic() + timeout_s
    while _accounted(up, recording_id) < accounted:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{recording_id}: {up.recording(recording_id)}, not {accounted}")
        time.sleep(0.4)


def recovery_s(up: Up, recording_id: str, channel: FakeChannel) -> float:
    """From now, when the fault is over, until what is published now is accounted for."""
    began = time.monotonic()
    wait_stored(up, recording_id, channel.segments)
    return time.monotonic() - began


def _accounted(up: Up, recording_id: str) -> int:
    try:
        totals = up.recording(recording_id)["totals"] or {}
    except (httpx.HTTPError, AssertionError):
        return 0  # the API is just being restarted
    names = ("segments_stored", "segments_lost", "segments_ad")
    return sum(int(totals.get(name, 0)) for name in names)


def table_line(row: str, words: str, found: Account, recovered_s: float) -> str:
    return (
        f"{row:5} {words:46} lost {len(found.lost):3}  doubled or torn {found.foreign_bytes:6} B"
        f"  gap {found.told_gap_s:6.1f} of {found.true_gap_s:6.1f} s"
        f"  back after {recovered_s:5.1f} s"
    )
