"""What crosses Temporal: task queues, workflow ids, one dataclass in and one out per call.

Standard library only, since workflows import this inside the sandbox. New fields get defaults, so
that histories written by an older release still replay. No secret and no signed URL belongs here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

BEAT_S = 2.0
"""Seconds between the heartbeats of a recording. Temporal answers them with a stop, so this is also
how fast a stop is."""

CONTROL_QUEUE = "control"
RECORD_QUEUE = "record"
DETECT_QUEUE = "detect"
"""Finding streams: polled by the control workers of a whole installation, not by those of a stack
that was started for one recording."""

DETECT_LIVE_ID = "detect-live"
INBOX_ID = "inbox"
EVENTSUB_ID = "eventsub"
SUBSCRIPTIONS_ID = "subscriptions"
TOKENS_ID = "tokens"
PICTURES_ID = "pictures"
WATCHDOG_ID = "watchdog"
PROXIES_ID = "proxies"
RETENTION_ID = "retention"
ADOPT_ID = "adopt"


def host_queue(host_id: str) -> str:
    """The queue of one recorder process: its captures and their files are only there."""
    return f"host-{host_id}"


def media_queue(host_id: str) -> str:
    """The queue of the media work of one host; one remux at a time."""
    return f"host-{host_id}-media"


def stream_workflow_id(platform: str, stream_id: str) -> str:
    return f"stream-{platform}-{stream_id}"


def url_workflow_id(recording_id: str) -> str:
    return f"stream-url-{recording_id}"


def processing_workflow_id(recording_id: str) -> str:
    return f"recording-{recording_id}"


def notification_workflow_id(notification_id: str) -> str:
    return f"notify-{notification_id}"


def verify_workflow_id(recording_id: str) -> str:
    return f"verify-{recording_id}"


def job_workflow_id(job_id: str) -> str:
    return f"job-{job_id}"


def sign_in_workflow_id(sign_in_id: str) -> str:
    return f"sign-in-{sign_in_id[:16]}"


class Step(StrEnum):
    """The steps of a pipeline, in order; search attribute, API and dashboard use these names."""

    DETECT = "detect"
    RECORD = "record"
    REMUX = "remux"
    THUMBNAILS = "thumbnails"
    CHAPTERS = "chapters"
    SIDECARS = "sidecars"
    NOTIFY = "notify"


STEPS = tuple(Step)
PROCESSING_STEPS = STEPS[2:]


class Status(StrEnum):
    """Status of a recording as users see it."""

    DETECTING = "detecting"
    RECORDING = "recording"
    RECONNECTING = "reconnecting"
    PROCESSING = "processing"
    NEEDS_ATTENTION = "needs_attention"
    COMPLETED = "completed"
    FAILED = "failed"


class StepState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    RETRYING = "retrying"
    PARKED = "parked"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


class GapCause(StrEnum):
    NETWORK = "network"
    PLAYLIST = "playlist"
    WORKER = "worker"
    DISK = "disk"
    PROXY = "proxy"
    SOURCE = "source"


class ProxyPolicy(StrEnum):
    """How a stream may be fetched."""

    DIRECT = "direct"
    PROXY_FIRST = "proxy-first"
    """Through a proxy, and direct while none works."""
    PROXY_ONLY = "proxy-only"
    """Never a direct byte, even if nothing is recorded then."""


class CaptureEnd(StrEnum):
    """Why a capture stopped writing. Only ENDED and STOPPED are final; the others resume."""

    ENDED = "ended"
    STOPPED = "stopped"
    DRAINED = "drained"
    """The recorder process shuts down; the next one goes on."""
    DISK = "disk"
    """No room or no permission; goes on when somebody helped."""
    NOTHING = "nothing"
    """Ended or stopped before the first segment."""


# ---- RecordStream


@dataclass(frozen=True)
class RecordStreamInput:
    recording_id: str
    source_url: str
    quality: str = "best"
    started_by: str = "person"
    """`person`, `cli`, or an automatic source: `webhook`, `conduit`, `websocket`, `poll`."""
    adopted: bool = False
    """Its former workflow was lost: what is there is kept, also when nothing is live any more."""


@dataclass(frozen=True)
class DetectInput:
    recording_id: str
    source_url: str
    adopted: bool = False


@dataclass(frozen=True)
class Detected:
    """A snapshot of what later steps need: a later edit of a setting cannot change a replay."""

    streamer: str
    title: str = ""
    category: str = ""
    directory: str = ""
    """The recording's working folder, relative to the library's root."""
    end_grace_s: float = 90.0
    host_count: int = 1
    stream_id: str = ""
    """The source's own id of this stream, where it has such a thing."""
    codecs: list[str] = field(default_factory=list)
    """Preferred first; empty is the default."""
    proxy_policy: str = ""
    """A ProxyPolicy; empty is the installation's own."""
    streamer_id: str = ""
    """Ours, where the streamer is followed."""
    live: bool = True
    """False only for what is adopted: its stream is over, and what is there becomes a file."""


@dataclass(frozen=True)
class Claim:
    host_id: str
    queue: str
    media_queue: str


@dataclass(frozen=True)
class RecordInput:
    recording_id: str
    source_url: str
    quality: str
    directory: str
    end_grace_s: float
    session: int = 1
    stream_id: str = ""
    codecs: list[str] = field(default_factory=list)
    proxy_policy: str = ""
    streamer_id: str = ""


@dataclass(frozen=True)
class Recorded:
    end: str
    """A CaptureEnd."""
    reason: str = ""
    segments: int = 0
    size_bytes: int = 0


@dataclass(frozen=True)
class NudgeInput:
    """A word to a capture: `stop`, `restart` (new session, new part), `offline` (a source says so)
    or `another` (the source is on another stream by now)."""

    recording_id: str
    word: str
    reason: str = ""


@dataclass(frozen=True)
class RoomInput:
    """Wait until the disk of this recording's folder has had room for so long."""

    directory: str
    lasting_s: float = 0.0


@dataclass(frozen=True)
class SealInput:
    recording_id: str
    directory: str
    reason: str


@dataclass(frozen=True)
class Sealed:
    segments: int
    size_bytes: int
    duration_s: float
    gaps: int = 0


@dataclass(frozen=True)
class ChannelUpdate:
    title: str
    category: str
    at: str = ""
    """RFC 3339 UTC; empty means now."""


@dataclass(frozen=True)
class StatusChange:
    recording_id: str
    status: str
    step: str = ""
    reason: str = ""
    ended: bool = False


@dataclass(frozen=True)
class StepChange:
    recording_id: str
    step: str
    state: str
    error: str = ""


@dataclass(frozen=True)
class ChannelEvent:
    recording_id: str
    title: str
    category: str
    at: str


# ---- ProcessRecording


@dataclass(frozen=True)
class ProcessInput:
    recording_id: str
    queue: str
    """The media queue of the host that holds the parts."""
    streamer: str = ""
    title: str = ""
    steps: list[str] = field(default_factory=lambda: [str(s) for s in PROCESSING_STEPS])
    again: bool = False
    """Asked for by a person on a finished recording."""
    reason: str = ""
    """`stopped` when a person ended the recording; stays with it."""


@dataclass(frozen=True)
class StepInput:
    recording_id: str
    again: bool = False


@dataclass(frozen=True)
class StepProgress:
    """What the activity of a long step tells its workflow now and then."""

    step: str
    percent: float
    speed: float | None = None
    """Seconds of media per second."""
    eta_s: float | None = None


@dataclass(frozen=True)
class VerifyInput:
    recording_id: str
    queue: str
    """Of the host that has the file."""


@dataclass(frozen=True)
class FileCheck:
    name: str
    passed: bool
    note: str = ""
    """One line for people: what was expected and what is there."""


@dataclass(frozen=True)
class Verified:
    """What became of a file that was looked at again."""

    ok: bool
    checks: list[FileCheck] = field(default_factory=list)


@dataclass(frozen=True)
class StepDone:
    note: str = ""
    """One line for the Temporal UI, such as `2.9 GB, 3,600 s, hash equal`."""


@dataclass(frozen=True)
class Processed:
    recording_id: str
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


# ---- Retention, and actions on many recordings


@dataclass(frozen=True)
class SweepInput:
    queue: str
    """The media queue of the host whose library it is."""
    room_wanted: bool = False
    """A recording waits for room: what was deleted goes before its day is over."""


@dataclass(frozen=True)
class Swept:
    """What went from a library for good."""

    recordings: int = 0
    size_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    """One line each, for people."""


@dataclass(frozen=True)
class Adopted:
    """What a look through the whole library came to."""

    known: int = 0
    added: int = 0
    """Recordings that the database did not know."""
    moved: int = 0
    """Whose file was found in another place."""
    taken_up: int = 0
    """Of which there were only parts; they become files now."""
    missing: list[str] = field(default_factory=list)
    """Whose file is nowhere; one line each, as below."""
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class JobInput:
    job_id: str
    queue: str = ""
    """The media queue of the host whose files it moves; empty where no file is touched."""


@dataclass(frozen=True)
class JobDone:
    done: int = 0
    failed: int = 0


# ---- what queries answer


@dataclass(frozen=True)
class PipelineStatus:
    stage: str
    detail: str = ""
    parked: list[str] = field(default_factory=list)
    error: str = ""


# ---- Notify


@dataclass(frozen=True)
class NotifyInput:
    notification_id: str


# ---- Probe


@dataclass(frozen=True)
class ProbeInput:
    url: str
    proxy_policy: str = ""
    streamer_id: str = ""


@dataclass(frozen=True)
class Probed:
    """A Sighting as it crosses Temporal."""

    platform: str
    login: str
    name: str
    stream_id: str = ""
    title: str = ""
    category: str = ""
    platform_user_id: str = ""


# ---- Detection


@dataclass(frozen=True)
class Watched:
    """What a long activity did until it returned to be started anew with today's code."""

    rounds: int = 0


# ---- The Twitch account


@dataclass(frozen=True)
class SignInInput:
    sign_in_id: str
    """The row's id. It opens nothing: the device code is in the row, sealed."""
    interval_s: float = 5.0
    """Twitch is not asked more often."""


@dataclass(frozen=True)
class SignInState:
    state: str
    """`waiting`, or how it ended: `connected`, `denied`, `expired`, `failed`."""
    interval_s: float = 5.0


@dataclass(frozen=True)
class TokensChecked:
    problems: list[str] = field(default_factory=list)
    """One line each, for people."""
