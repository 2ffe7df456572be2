"""JSON of the library: what a list is narrowed down to, marks, and jobs on many recordings."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from api.schemas import Body
from streamvault.contracts import Status
from streamvault.db import library, models
from streamvault.db.library import Wanted

MAX_IDS = 1000

Sort = Literal["newest", "oldest", "longest", "largest"]
Action = Literal["delete", "undelete", "lock", "unlock", "watched", "unwatched", "move"]


class ListQuery(BaseModel):
    streamer_id: UUID | None = None
    status: list[Status] = Field(default=[])
    q: Annotated[str, Field(max_length=200)] = ""
    category: Annotated[str, Field(max_length=200)] = ""
    """Exactly this one."""
    since: AwareDatetime | None = None
    """Begun then or later."""
    until: AwareDatetime | None = None
    """Begun before."""
    watched: bool | None = None
    locked: bool | None = None
    deleted: bool = False

    def read(self) -> Wanted:
        return Wanted(
            streamer_id=str(self.streamer_id) if self.streamer_id else None,
            status=[str(status) for status in self.status],
            q=self.q,
            category=self.category,
            since=self.since,
            until=self.until,
            watched=self.watched,
            locked=self.locked,
            deleted=self.deleted,
        )


class Filter(ListQuery):
    """One that is misspelt must not mean everything."""

    model_config = ConfigDict(extra="forbid")


class ListPage(ListQuery):
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str | None, Field(max_length=64)] = None
    sort: Sort = "newest"


class RecordingChange(Body):
    """Only the keys that are given change."""

    locked: bool = False
    watched: bool = False


class Position(Body):
    s: Annotated[float, Field(ge=0, le=10_000_000, allow_inf_nan=False)]
    """Seconds from the start."""


class FacetItem(BaseModel):
    key: str
    """What a list is asked for; of a streamer the id, empty for those who are not followed."""
    name: str
    recordings: int
    size_bytes: int


class FacetList(BaseModel):
    total: FacetItem
    streamers: list[FacetItem]
    categories: list[FacetItem]
    statuses: list[FacetItem]

    @classmethod
    def of(cls, found: library.Facets) -> FacetList:
        return cls.model_validate(found, from_attributes=True)


class MoveTo(Body):
    """Where finished files go. They are compared there before they go from where they were."""

    to: Annotated[str, Field(max_length=4096)] = ""
    """A library, by its path as in `/api/storage`; empty: where it is."""
    rename: bool = False
    """Give it the name that today's template makes."""

    @model_validator(mode="after")
    def _something(self) -> MoveTo:
        if not self.to and not self.rename:
            raise ValueError("give a library to move to, or rename, or both")
        return self


class BulkAction(Body):
    """On those with these ids, or on everything that a list with this filter would show."""

    action: Action
    move: MoveTo | None = None
    """Where to, for `move`."""
    ids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_IDS)] | None = None
    filter: Filter | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> BulkAction:
        if (self.ids is None) == (self.filter is None):
            raise ValueError("give either ids or filter")
        if (self.move is None) == (self.action == "move"):
            raise ValueError("give `move` with the action move, and with no other")
        return self

    def wanted(self) -> Wanted:
        if self.filter is not None:
            return self.filter.read()
        return Wanted(ids=[str(one) for one in self.ids or ()], deleted=self.action == "undelete")


class JobItem(BaseModel):
    id: UUID
    action: str
    state: Literal["running", "done"]
    total: int
    done: int
    progress: float | None
    """From 0 to 1, of a large file that is just being moved."""
    failed: list[dict[str, Any]]
    """Id, title and problem of each that could not be done."""
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, row: models.Job) -> JobItem:
        return cls.model_validate(row, from_attributes=True)
