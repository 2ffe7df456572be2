"""The activities as the workflows know them, played instead of done: real Temporal, no streams.

Each class registers under the names of the real one. A test says beforehand what an activity comes
to, and can hold one until it has seen enough.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from streamvault.contracts import (
    CaptureEnd,
    ChannelEvent,
    Claim,
    Detected,
    DetectInput,
    NotifyInput,
    NudgeInput,
    Probed,
    ProbeInput,
    Recorded,
    RecordInput,
    RoomInput,
    Sealed,
    SealInput,
    StatusChange,
    StepChange,
    StepDone,
    StepInput,
    SweepInput,
    Swept,
    host_queue,
    media_queue,
)

# How often a held activity looks for a cancellation; workers of these tests throttle to the same.
BEAT_S = 0.05

ENDED = Recorded(CaptureEnd.ENDED, "the playlist ended", segments=4, size_bytes=4_000)
STOPPED = Recorded(CaptureEnd.STOPPED, "stopped", segments=3, size_bytes=3_000)
DRAINED = Recorded(CaptureEnd.DRAINED, "the recorder shuts down", segments=2, size_bytes=2_000)
NO_ROOM = Recorded(CaptureEnd.DISK, "no room left on the recordings' disk", segments=2)


def failure(text: str, kind: str = "MediaError", *, permanent: bool = False) -> ApplicationError:
    """What the interceptor makes of one of our errors."""
    return ApplicationError(text, type=kind, non_retryable=permanent)


@dataclass
class Script:
    """What is going to happen, and what has happened in which order."""

    calls: list[str] = field(default_factory=list)
    failures: dict[str, list[ApplicationError]] = field(default_factory=lambda: defaultdict(list))
    """Per activity: what its next attempts fail with."""
    lost: list[str] = field(default_factory=list)
    """Activities whose next attempt reaches a worker that never answers."""
    _gates: dict[str, asyncio.Event] = field(default_factory=dict)

    def hold(self, name: str) -> None:
        """The next calls of this activity wait for `release`."""
        self._gates[name] = asyncio.Event()

    def release(self, name: str) -> None:
        self._gates.pop(name).set()

    async def play(self, name: str) -> None:
        self.calls.append(name)
        if name in self.lost:
            self.lost.remove(name)
            await asyncio.Event().wait()
        gate = self._gates.get(name)
        while gate is not None and not gate.is_set():
            activity.heartbeat()
            await asyncio.sleep(BEAT_S)
        if self.failures[name]:
            raise self.failures[name].pop(0)


@dataclass
class FakeStreams:
    script: Script
    found: Detected = field(
        default_factory=lambda: Detected("Alice", "speedrun", "Chess", "Alice/.parts/1")
    )

    seen: Probed = field(
        default_factory=lambda: Probed("fake", "alice", "Alice", title="speedrun", category="Chess")
    )

    @activity.defn
    async def probe(self, order: ProbeInput) -> Probed:
        await self.script.play("probe")
        return self.seen

    @activity.defn
    async def detect(self, order: DetectInput) -> Detected:
        await self.script.play("detect")
        return self.found


@dataclass
class FakeRecording:
    """A recorder: every session lasts until the test ends it or the workflow stops it."""

    script: Script
    host_id: str
    ends: asyncio.Queue[Recorded | ApplicationError] = field(default_factory=asyncio.Queue)
    claims: list[str] = field(default_factory=list)
    """Hosts that claim first; then it is `host_id`."""
    sessions: list[RecordInput] = field(default_factory=list)
    nudges: list[NudgeInput] = field(default_factory=list)
    seals: list[SealInput] = field(default_factory=list)
    waits: list[RoomInput] = field(default_factory=list)
    sweeps: list[SweepInput] = field(default_factory=list)
    room: asyncio.Event = field(default_factory=asyncio.Event)
    """Set: the disk has room again."""
    stored: int = 4
    """Segments that the journal holds when it is sealed."""

    @activity.defn
    async def claim(self, recording_id: str) -> Claim:
        await self.script.play("claim")
        host = self.claims.pop(0) if self.claims else self.host_id
        return Claim(host, host_queue(host), media_queue(host))

    @activity.defn
    async def record(self, order: RecordInput) -> Recorded:
        self.sessions.append(order)
        self.script.calls.append("record")
        try:
            end = await self._until_an_end()
        except asyncio.CancelledError:
            details = activity.cancellation_details()
            if details and details.cancel_requested:
                return STOPPED
            raise
        if isinstance(end, ApplicationError):
            raise end
        return end

    async def _until_an_end(self) -> Recorded | ApplicationError:
        while not activity.is_worker_shutdown():
            activity.heartbeat()
            try:
                return await asyncio.wait_for(self.ends.get(), BEAT_S)
            except TimeoutError:
                continue
        return DRAINED

    @activity.defn
    async def nudge(self, order: NudgeInput) -> None:
        self.nudges.append(order)
        await self.script.play("nudge")

    @activity.defn
    async def await_room(self, order: RoomInput) -> None:
        await self.script.play("await_room")
        self.waits.append(order)
        while not self.room.is_set():
            activity.heartbeat()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.room.wait(), BEAT_S)

    @activity.defn
    async def sweep(self, order: SweepInput) -> Swept:
        await self.script.play("sweep")
        self.sweeps.append(order)
        return Swept()

    @activity.defn
    async def seal(self, order: SealInput) -> Sealed:
        self.seals.append(order)
        await self.script.play("seal")
        return Sealed(self.stored, self.stored * 1_000, self.stored * 2.0)


@dataclass
class FakeCatalog:
    script: Script
    statuses: list[StatusChange] = field(default_factory=list)
    steps: list[StepChange] = field(default_factory=list)
    channels: list[ChannelEvent] = field(default_factory=list)
    can_grow: list[bool] = field(default_factory=list)
    """Answers to whether there is no final file yet; after these: there is none."""

    @activity.defn
    async def set_status(self, change: StatusChange) -> None:
        await self.script.play(f"status {change.status}")
        self.statuses.append(change)

    @activity.defn
    async def set_step(self, change: StepChange) -> None:
        await self.script.play(f"{change.step} {change.state}")
        self.steps.append(change)

    @activity.defn
    async def note_channel(self, event: ChannelEvent) -> None:
        await self.script.play("note_channel")
        self.channels.append(event)

    @activity.defn
    async def can_resume(self, recording_id: str) -> bool:
        await self.script.play("can_resume")
        return self.can_grow.pop(0) if self.can_grow else True

    @property
    def last(self) -> tuple[str, str, str]:
        """Status, step and reason as a reader of the database would see them."""
        change = self.statuses[-1]
        return change.status, change.step, change.reason


@dataclass
class FakeMedia:
    script: Script
    orders: list[StepInput] = field(default_factory=list)

    @activity.defn
    async def remux(self, order: StepInput) -> StepDone:
        return await self._done("remux", order, "2.90 GB, 60.0 min, stream hash equal")

    @activity.defn
    async def thumbnails(self, order: StepInput) -> StepDone:
        return await self._done("thumbnails", order, "360 pictures")

    @activity.defn
    async def chapters(self, order: StepInput) -> StepDone:
        return await self._done("chapters", order, "3 chapters")

    @activity.defn
    async def sidecars(self, order: StepInput) -> StepDone:
        return await self._done("sidecars", order, "NFO and report written, parts removed")

    async def _done(self, name: str, order: StepInput, note: str) -> StepDone:
        self.orders.append(order)
        await self.script.play(name)
        return StepDone(note)


@dataclass
class FakeNotify:
    script: Script
    delivered: list[NotifyInput] = field(default_factory=list)

    @activity.defn
    async def announce(self, order: StepInput) -> StepDone:
        await self.script.play("announce")
        return StepDone("1 targets")

    @activity.defn
    async def deliver(self, order: NotifyInput) -> None:
        await self.script.play("deliver")
        self.delivered.append(order)


class Cast:
    """All of them, for one recording."""

    def __init__(self, host_id: str) -> None:
        self.host_id = host_id
        self.script = Script()
        self.streams = FakeStreams(self.script)
        self.recording = FakeRecording(self.script, host_id)
        self.catalog = FakeCatalog(self.script)
        self.media = FakeMedia(self.script)
        self.notify = FakeNotify(self.script)

    @property
    def queues(self) -> dict[str, list[Callable[..., Any]]]:
        """By the name of the worker that serves it: `control`, `record`, `host`, `media`."""
        return {
            "control": [
                self.streams.probe,
                self.streams.detect,
                self.catalog.set_status,
                self.catalog.set_step,
                self.catalog.note_channel,
                self.catalog.can_resume,
                self.notify.announce,
                self.notify.deliver,
            ],
            "record": [self.recording.claim],
            "host": [
                *(self.recording.record, self.recording.nudge),
                *(self.recording.await_room, self.recording.seal),
            ],
            "media": [
                self.media.remux,
                self.media.thumbnails,
                self.media.chapters,
                self.media.sidecars,
                self.recording.sweep,
            ],
        }

    def work(self, *names: str) -> list[str]:
        """The calls that are steps of the story, or those named, in order."""
        story = names or (
            *("detect", "claim", "record", "seal"),
            *("remux", "thumbnails", "chapters", "sidecars", "announce"),
        )
        return [call for call in self.script.calls if call in story]
