"""JSON of the dead letters."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, StringConstraints

from api.schemas import Body, StreamerRef

LetterKind = Literal["pipeline", "inbox", "notification"]


class DeadLetter(BaseModel):
    """Something that needs a person. What only a pipeline has is null in the others."""

    id: str
    kind: LetterKind
    title: str
    error: str | None
    attempts: int | None
    since: datetime | None
    recording_id: UUID | None = None
    streamer: StreamerRef | None = None
    status: str | None = None
    step: str | None = None
    temporal_url: str | None = None


class Discard(Body):
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class LetterDecided(BaseModel):
    id: str
    kind: LetterKind
    action: Literal["retry", "discard"]
