"""JSON of streamers: the one we follow, its settings, and how lists of them come in."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, model_validator

from api.schemas import Address, Body, Quality
from streamvault import filters, templates
from streamvault.db import models
from streamvault.db.preferences import Preferences
from streamvault.db.streamers import Figures
from streamvault.filters import Filters
from streamvault.settings import Settings

MAX_ENTRIES = 500
MAX_TEXT = 100_000

Value = TypeVar("Value")
Codec = Literal["h264", "h265", "av1"]
Login = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,25}$")]
UserId = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,20}$")]

DEFAULT_QUALITY = "best"
DEFAULT_CODECS: tuple[Codec, ...] = ("h264",)


def _check_filter(entry: str) -> str:
    if problem := filters.problem_of(entry):
        raise ValueError(f"this entry {problem}")
    return entry.strip()


def _check_template(template: str) -> str:
    if problem := templates.problem_of(template):
        raise ValueError(f"this template {problem}")
    return template


def _check_codecs(codecs: list[Codec]) -> list[Codec]:
    if len(set(codecs)) < len(codecs):
        raise ValueError("names a codec twice")
    return codecs


Entries = Annotated[
    list[Annotated[str, AfterValidator(_check_filter)]], Field(max_length=filters.MAX_ENTRIES)
]
Codecs = Annotated[list[Codec], Field(min_length=1), AfterValidator(_check_codecs)]
Grace = Annotated[float, Field(ge=0, le=86_400)]
Policy = Literal["direct", "proxy-first", "proxy-only"]
Days = Annotated[int, Field(ge=0, le=36_500)]
"""0 is without limit, as for the two below."""
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Bytes = Annotated[int, Field(ge=0, le=2**53)]
Template = Annotated[str, AfterValidator(_check_template)]


class NewStreamer(Body):
    """One of the two: a Twitch login, or the address of any other source."""

    login: Login | None = None
    url: Address | None = None
    quality: Quality = DEFAULT_QUALITY

    @model_validator(mode="after")
    def _one_of_both(self) -> NewStreamer:
        if (self.login is None) == (self.url is None):
            raise ValueError("give either login or url")
        return self


class FilterLists(Body):
    """Texts found anywhere in title or category, whatever their case; `*` stands for anything in
    between, and `/…/` holds a regular expression. Denied wins; a list of allowed texts has to
    match."""

    title_allow: Entries = Field(default=[])
    title_deny: Entries = Field(default=[])
    category_allow: Entries = Field(default=[])
    category_deny: Entries = Field(default=[])

    @classmethod
    def of(cls, found: Filters) -> FilterLists:
        # Without checking again: an entry of another release must not break a list of streamers.
        return cls.model_construct(
            title_allow=list(found.title_allow),
            title_deny=list(found.title_deny),
            category_allow=list(found.category_allow),
            category_deny=list(found.category_deny),
        )


class StreamerChange(Body):
    """Only the keys that are given change; null takes a setting back to its default."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)] = ""
    enabled: bool = True
    quality: Quality | None = None
    codecs: Codecs | None = None
    """In the order of preference."""
    filters: FilterLists | None = None
    """All four lists at once; one that is left out is empty."""
    end_grace_s: Grace | None = None
    naming: Template | None = None
    retention_days: Days | None = None
    retention_count: Count | None = None
    retention_bytes: Bytes | None = None
    proxy_policy: Policy | None = None

    def apply(self, row: models.Streamer) -> None:
        for name in self.model_fields_set:
            setattr(row, name, self._column(name))

    def _column(self, name: str) -> object:
        """What the row holds for it; empty where it keeps the default."""
        match name:
            case "quality":
                return self.quality or DEFAULT_QUALITY
            case "codecs":
                return ",".join(self.codecs or ())
            case "filters":
                return Filters.read(self.filters.model_dump()).stored() if self.filters else {}
            case "naming":
                return self.naming or ""
            case "proxy_policy":
                return self.proxy_policy or ""
        return getattr(self, name)


class Setting(BaseModel, Generic[Value]):
    """`value` holds; `own` is null where that is the default."""

    value: Value
    default: Value
    own: Value | None

    @classmethod
    def of(cls, own: Value | None, default: Value) -> Setting[Value]:
        return cls(value=default if own is None else own, default=default, own=own)


class StreamerSettings(BaseModel):
    quality: Setting[str]
    codecs: Setting[list[str]]
    filters: Setting[FilterLists]
    end_grace_s: Setting[float]
    naming: Setting[str]
    retention_days: Setting[int]
    """0 keeps recordings for ever; likewise below."""
    retention_count: Setting[int]
    retention_bytes: Setting[int]
    proxy_policy: Setting[str]

    @classmethod
    def of(cls, row: models.Streamer, settings: Settings, general: Preferences) -> StreamerSettings:
        quality = None if row.quality == DEFAULT_QUALITY else row.quality
        own_codecs = row.codecs.split(",") if row.codecs else None
        found = Filters.read(row.filters)
        own_filters = FilterLists.of(found) if found.stored() else None
        return cls(
            quality=Setting[str].of(quality, DEFAULT_QUALITY),
            codecs=Setting[list[str]].of(own_codecs, list(DEFAULT_CODECS)),
            filters=Setting[FilterLists].of(own_filters, FilterLists()),
            end_grace_s=Setting[float].of(row.end_grace_s, settings.end_grace_s),
            naming=Setting[str].of(row.naming or None, general.naming),
            retention_days=Setting[int].of(row.retention_days, general.retention_days),
            retention_count=Setting[int].of(row.retention_count, general.retention_count),
            retention_bytes=Setting[int].of(row.retention_bytes, general.retention_bytes),
            proxy_policy=Setting[str].of(row.proxy_policy or None, settings.default_proxy_policy),
        )


class StreamerItem(BaseModel):
    id: UUID
    platform: str
    user_id: str | None
    """The platform's own; null until it was asked."""
    login: str
    name: str
    url: str
    avatar: str | None
    """Where we serve it."""
    enabled: bool
    quality: str
    created_at: datetime
    problem: str
    """Why this streamer cannot be followed at present; else empty."""
    live: bool
    live_since: datetime | None
    last_live_at: datetime | None
    title: str
    category: str
    category_id: str
    recording_id: UUID | None
    """The recording that is going on."""
    recordings: int
    size_bytes: int
    settings: StreamerSettings

    @classmethod
    def of(
        cls, row: models.Streamer, figures: Figures, settings: Settings, general: Preferences
    ) -> StreamerItem:
        return cls(
            id=row.id,
            platform=row.platform,
            user_id=row.platform_user_id,
            login=row.login,
            name=row.name,
            url=row.url,
            avatar=avatar_of(row),
            enabled=row.enabled,
            quality=row.quality,
            created_at=row.created_at,
            problem=row.problem,
            live=row.live_since is not None,
            live_since=row.live_since,
            last_live_at=row.live_since or figures.last_started_at,
            title=row.title,
            category=row.category,
            category_id=row.category_id,
            recording_id=figures.open_recording,
            recordings=figures.recordings,
            size_bytes=figures.size_bytes,
            settings=StreamerSettings.of(row, settings, general),
        )


def avatar_of(row: models.Streamer) -> str | None:
    """Its address here. The name of the picture in it lets a browser keep it for good."""
    name = row.image.partition(".")[0]
    return f"/api/streamers/{row.id}/avatar?v={name}" if name else None


# ---- lists


class Pasted(Body):
    text: Annotated[str, StringConstraints(max_length=MAX_TEXT)]


class PastedEntry(BaseModel):
    """`new` can be added, `followed` we have, `unknown` nobody has, `invalid` nobody can have,
    `duplicate` stands above already."""

    input: str
    status: Literal["new", "followed", "unknown", "invalid", "duplicate"]
    login: str | None = None
    name: str | None = None
    avatar: str | None = None
    url: str | None = None
    user_id: str | None = None
    streamer_id: UUID | None = None
    problem: str = ""
    """What is wrong, or could not be checked."""


class PastedList(BaseModel):
    items: list[PastedEntry]


class ImportStreamers(Body):
    """Logins, @names and addresses, and ids of accounts on Twitch."""

    entries: list[Address] = Field(default=[])
    user_ids: list[UserId] = Field(default=[])

    @model_validator(mode="after")
    def _some_but_not_too_many(self) -> ImportStreamers:
        if not 0 < len(self.entries) + len(self.user_ids) <= MAX_ENTRIES:
            raise ValueError(f"takes 1 to {MAX_ENTRIES} entries and user_ids at once")
        return self


class ImportedEntry(BaseModel):
    input: str
    status: Literal["added", "already", "refused"]
    streamer_id: UUID | None = None
    login: str | None = None
    name: str | None = None
    problem: str = ""
    """Why it was refused, or what could not be checked yet."""


class ImportedList(BaseModel):
    items: list[ImportedEntry]


class Follow(BaseModel):
    """Somebody whom the connected account follows on Twitch."""

    user_id: str
    login: str
    name: str
    followed_at: datetime
    followed_here: bool
    streamer_id: UUID | None
    avatar: str | None
    """Null unless we follow as well."""
