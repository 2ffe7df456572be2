"""JSON in and out: the shapes of the outer contract."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from activities.library import stored_chapters
from streamvault.contracts import PROCESSING_STEPS, STEPS, Status, Step
from streamvault.db import models
from streamvault.errors import InvalidInput
from streamvault.playback.qualities import check_quality

Item = TypeVar("Item")


def _check_quality(text: str) -> str:
    try:
        check_quality(text)
    except InvalidInput as error:
        raise ValueError(error.one_line) from None
    return text.strip()


Quality = Annotated[str, StringConstraints(max_length=200), AfterValidator(_check_quality)]
Address = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
MARKS = ("locked", "watched", "position_s", "deleted_at", "deleted_why", "purge_at")
ProcessingStep = Literal["remux", "thumbnails", "chapters", "sidecars", "notify"]


class Body(BaseModel):
    """What comes in: an unknown key is a mistake worth telling."""

    model_config = ConfigDict(extra="forbid")


class Listing(BaseModel, Generic[Item]):
    items: list[Item]
    next_cursor: str | None


# ---- recordings


class StartRecording(Body):
    """One of the two: a streamer we follow, or an address."""

    streamer_id: UUID | None = None
    url: Address | None = None
    quality: Quality | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> StartRecording:
        if (self.streamer_id is None) == (self.url is None):
            raise ValueError("give either streamer_id or url")
        return self


class ProcessAgain(Body):
    steps: list[ProcessingStep] = Field(default=[], max_length=len(PROCESSING_STEPS))
    """Empty: every step that can still run."""


class StreamerRef(BaseModel):
    id: UUID | None
    login: str | None
    name: str


class Playable(BaseModel):
    hls: bool
    media: bool


class Chapter(BaseModel):
    start_s: float
    title: str
    category: str


class StepItem(BaseModel):
    name: str
    state: str
    attempt: int
    progress: float | None
    """From 0 to 1."""
    speed: float | None
    """While it runs: seconds of media per second."""
    eta_s: float | None
    """While it runs: seconds that it will still take."""
    started_at: datetime | None
    ended_at: datetime | None
    next_retry_at: datetime | None
    error: str | None


class PartItem(BaseModel):
    number: int
    size_bytes: int
    duration_s: float


class GapItem(BaseModel):
    start_s: float
    duration_s: float
    cause: str
    at: datetime | None


class AdItem(BaseModel):
    start_s: float
    duration_s: float
    kind: str


class Totals(BaseModel):
    """The account of a recording; segments are counts, the rest seconds."""

    segments_expected: int = 0
    segments_stored: int = 0
    segments_late: int = 0
    segments_lost: int = 0
    segments_ad: int = 0
    segments_repaired: int = 0
    gap_s: float = 0
    ad_s: float = 0
    restarts: int = 0


class RecordingItem(BaseModel):
    """A recording in a list."""

    id: UUID
    streamer: StreamerRef
    stream_id: str | None
    """The platform's id of the stream; null where it has none."""
    continues: UUID | None
    """The recording that this one goes on from."""
    title: str
    category: str
    status: str
    reason: str
    """Why it failed or needs attention, in one line; else empty."""
    step: str
    quality: str
    codec: str | None
    started_at: datetime
    ended_at: datetime | None
    duration_s: float
    size_bytes: int
    bitrate_bps: int
    workflow_id: str
    path: str | None
    locked: bool
    watched: bool
    position_s: float
    """Where somebody stopped watching."""
    deleted_at: datetime | None
    deleted_why: str
    purge_at: datetime | None
    """Until then `undelete` brings it back."""
    playable: Playable
    chapters: list[Chapter]
    totals: Totals
    damaged: list[str]
    """What of its row cannot be read, and is left out here; `./sv doctor --repair` may know it."""

    @classmethod
    def of(cls, row: models.Recording) -> RecordingItem:
        return cls(**_recording(row))


class RecordingDetail(RecordingItem):
    """The one recording, with all it holds."""

    steps: list[StepItem]
    parts: list[PartItem]
    gaps: list[GapItem]
    ads: list[AdItem]

    @classmethod
    def of(cls, row: models.Recording) -> RecordingDetail:
        return cls(
            **_recording(row),
            steps=steps_of(row),
            parts=[_from(PartItem, part) for part in row.parts],
            gaps=[_from(GapItem, gap) for gap in row.gaps],
            ads=[_from(AdItem, ad) for ad in row.ads],
        )


def has_parts(row: models.Recording) -> bool:
    """Whether the part files are there, so that the recording plays as HLS."""
    return row.directory is not None and row.parts_gone_at is None and row.size_bytes > 0


def steps_of(row: models.Recording) -> list[StepItem]:
    """All seven, in the order in which they run."""
    known = {step.name: step for step in row.steps}
    return [_step(known[name]) for name in STEPS if name in known]


def _recording(row: models.Recording) -> dict[str, Any]:
    return {
        "id": row.id,
        "streamer": StreamerRef(
            id=row.streamer_id, login=row.streamer_login, name=row.streamer_name
        ),
        "stream_id": row.stream.platform_stream_id if row.stream else None,
        "continues": row.continues_id,
        "title": row.title,
        "category": row.category,
        "status": row.status,
        "reason": row.reason,
        "step": row.step,
        "quality": row.variant or row.quality,
        "codec": row.codec,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "duration_s": row.duration_s,
        "size_bytes": row.size_bytes,
        "bitrate_bps": row.bitrate_bps,
        "workflow_id": row.workflow_id,
        "path": row.path,
        **{name: getattr(row, name) for name in MARKS},
        "playable": Playable(hls=has_parts(row), media=row.path is not None),
        "chapters": _chapters(row),
        "totals": _totals(row) or Totals(),
        "damaged": _damaged(row),
    }


def _damaged(row: models.Recording) -> list[str]:
    """By the names that these things have here."""
    lost = {
        "status": row.status not in list(Status),
        "step": bool(row.step) and row.step not in list(Step),
        "totals": _totals(row) is None,
        "chapters": row.chapters is not None
        and (not isinstance(row.chapters, list) or len(stored_chapters(row)) < len(row.chapters)),
        "report": row.report is not None and not isinstance(row.report, dict),
    }
    return [name for name, is_lost in lost.items() if is_lost]


def _totals(row: models.Recording) -> Totals | None:
    """None where the column is damaged."""
    try:
        return Totals.model_validate({} if row.totals is None else row.totals)
    except ValidationError:
        return None


def _chapters(row: models.Recording) -> list[Chapter]:
    """Those in the final file; until it exists, what the channel said, by the clock."""
    if row.chapters is not None:
        return [
            Chapter(start_s=c.start_s, title=c.title, category=c.category)
            for c in stored_chapters(row)
        ]
    return [
        Chapter(
            # The first one holds from the first picture on, whenever it was that we looked.
            start_s=max((event.timestamp - row.started_at).total_seconds(), 0.0) if number else 0,
            title=event.title,
            category=event.category,
        )
        for number, event in enumerate(row.events)
    ]


def _step(row: models.RecordingStep) -> StepItem:
    item = _from(StepItem, row)
    item.error = row.error or None
    return item


Shape = TypeVar("Shape", bound=BaseModel)


def _from(shape: type[Shape], row: models.Base) -> Shape:
    return shape(**{name: getattr(row, name) for name in shape.model_fields})


# ---- pipelines


class PipelineItem(BaseModel):
    """A stream's workflow and its child, as the database knows them."""

    workflow_id: str
    processing_workflow_id: str
    recording_id: UUID
    streamer: StreamerRef
    title: str
    status: str
    step: str
    reason: str | None
    parked: list[str]
    steps: list[StepItem]
    started_at: datetime
    ended_at: datetime | None
    temporal_url: str | None


class LiveStatus(BaseModel):
    """What a workflow says of itself at this moment."""

    stage: str
    detail: str
    parked: list[str]
    error: str


class PipelineDetail(PipelineItem):
    live: LiveStatus | None
    processing_temporal_url: str | None


class Decision(Body):
    """Which step is meant; empty means whatever is parked."""

    step: Step | Literal[""] = ""


class Accepted(BaseModel):
    """What was asked for and is now a workflow's to do."""

    workflow_id: str
    recording_id: UUID
    action: str
