"""The tables; those of sign-in are in `models_access`. PostgreSQL only; times are aware UTC, sizes
bytes, durations seconds.

Status, step and cause columns hold the words of `streamvault.contracts`, guarded by CHECKs, and are
read as plain text: a row that an older or newer release wrote must never break a list.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    MetaData,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from streamvault.contracts import GapCause, ProxyPolicy, Status, Step, StepState
from streamvault.db.ids import uuid7
from streamvault.db.words import Words

SEARCHED = ("title", "category", "streamer_name")
CLOSED = (str(Status.COMPLETED), str(Status.FAILED))


def _one_of(column: str, words: Iterable[str], *, or_empty: bool = False) -> str:
    quoted = ", ".join(f"'{word}'" for word in ([""] if or_empty else []) + list(words))
    return f"{column} IN ({quoted})"


def mapping(stored: object) -> dict[str, Any]:
    """What a JSON column should hold; empty for one that was damaged, which must break no list."""
    return stored if isinstance(stored, dict) else {}


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map: ClassVar = {
        datetime: DateTime(timezone=True),
        str: Words,
        dict[str, Any]: JSONB,
        list[dict[str, Any]]: JSONB,
    }


class Streamer(Base):
    """Whom we follow."""

    __tablename__ = "streamers"
    __table_args__ = (
        Index("uq_streamers_platform_login", "platform", text("lower(login)"), unique=True),
        # Logins are renamed and then free for somebody else; the platform's id stays.
        Index("uq_streamers_platform_user", "platform", "platform_user_id", unique=True),
        Index("idx_streamers_enabled", "platform", postgresql_where=text("enabled")),
        # A login reaches URLs and file names, so the database holds the same rule as the API.
        CheckConstraint("platform <> 'twitch' OR login ~ '^[A-Za-z0-9_]{1,25}$'", "twitch_login"),
        CheckConstraint(_one_of("proxy_policy", ProxyPolicy, or_empty=True), "proxy_policy"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    platform: Mapped[str]
    platform_user_id: Mapped[str | None]
    login: Mapped[str]
    name: Mapped[str]
    url: Mapped[str]
    enabled: Mapped[bool] = mapped_column(default=True)
    quality: Mapped[str] = mapped_column(default="best")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    # What its owner chose; None and "" stand for the default.
    codecs: Mapped[str] = mapped_column(server_default="")
    filters: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    end_grace_s: Mapped[float | None]
    naming: Mapped[str] = mapped_column(server_default="")
    # Of its recordings are kept: so many days, so many, so much; 0 is without limit.
    retention_days: Mapped[int | None]
    retention_count: Mapped[int | None]
    retention_bytes: Mapped[int | None] = mapped_column(BigInteger)
    proxy_policy: Mapped[str] = mapped_column(server_default="")

    # What the platform said last; written only when it changes.
    live_stream_id: Mapped[str] = mapped_column(server_default="")
    live_since: Mapped[datetime | None]
    title: Mapped[str] = mapped_column(server_default="")
    category: Mapped[str] = mapped_column(server_default="")
    category_id: Mapped[str] = mapped_column(server_default="")
    avatar_url: Mapped[str] = mapped_column(server_default="")
    image: Mapped[str] = mapped_column(server_default="")
    """Name of the cached avatar in `DATA_DIR/images`."""
    image_source: Mapped[str] = mapped_column(server_default="")
    """The address that was fetched for it, also when no usable picture came from there."""
    profile_at: Mapped[datetime | None]
    """When the platform was last asked for login, name and avatar; None asks it soon."""
    problem: Mapped[str] = mapped_column(server_default="")
    """Why this streamer cannot be followed at present, in one line for people."""


class Proxy(Base):
    """A way to a stream. `sealed` opens only with the key and in the place `proxies.<id>`."""

    __tablename__ = "proxies"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    name: Mapped[str]
    sealed: Mapped[str]
    shown: Mapped[str]
    """Scheme, host and port."""
    has_password: Mapped[bool]
    position: Mapped[int]
    enabled: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    streamer_id: Mapped[UUID | None] = mapped_column(ForeignKey("streamers.id", ondelete="CASCADE"))
    """The only one that it is for; NULL: for everybody."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    checked_at: Mapped[datetime | None]
    """NULL has it looked at soon."""
    ok: Mapped[bool | None]
    latency_ms: Mapped[int | None]
    error: Mapped[str] = mapped_column(default="", server_default="")


class Preference(Base):
    """What a user set for the whole installation; one that has no row keeps its default."""

    __tablename__ = "preferences"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[Any] = mapped_column(JSONB)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Job(Base):
    """One action on many recordings: those of `wanted`, by ids or as a list would show them."""

    __tablename__ = "jobs"
    __table_args__ = (CheckConstraint("state IN ('running', 'done')", "state"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    action: Mapped[str]
    wanted: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(default="running", server_default="running")
    total: Mapped[int]
    done: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    failed: Mapped[list[dict[str, Any]]] = mapped_column(default=list, server_default=text("'[]'"))
    """Id, title and why of those that could not be done."""
    last_id: Mapped[UUID | None]
    """How far it is: newest first, as lists are."""
    options: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    """What the action was asked for with."""
    current: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default=text("'{}'"))
    """What it is at, so that an interrupted one goes on from there."""
    progress: Mapped[float | None]
    """Of the recording that it is at, from 0 to 1."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]


class Category(Base):
    """A category with its art, cached."""

    __tablename__ = "categories"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    art_url: Mapped[str] = mapped_column(server_default="")
    image: Mapped[str] = mapped_column(server_default="")
    image_source: Mapped[str] = mapped_column(server_default="")
    fetched_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Stream(Base):
    """One live session of a source that numbers its sessions."""

    __tablename__ = "streams"
    __table_args__ = (
        UniqueConstraint("platform", "platform_stream_id"),
        Index("idx_streams_streamer_active", "streamer_id", "ended_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    streamer_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("streamers.id", ondelete="SET NULL")
    )
    platform: Mapped[str]
    platform_stream_id: Mapped[str]
    title: Mapped[str] = mapped_column(default="")
    category: Mapped[str] = mapped_column(default="")
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]


class Recording(Base):
    """Ours: row, parts, final file. `directory` and `path` are relative to the library's root."""

    __tablename__ = "recordings"
    __table_args__ = (
        Index(
            "uq_recordings_open_source",
            "source_key",
            unique=True,
            postgresql_where=text("holds_source"),
        ),
        # The final file is named by series, day and number, so this keeps file names apart.
        Index(
            "uq_recordings_episode", text("lower(series)"), "episode_day", "episode", unique=True
        ),
        Index("idx_recordings_stream_status", "stream_id", "status"),
        Index("idx_recordings_streamer", "streamer_id", "id"),
        Index("idx_recordings_status", "status", "id"),
        Index("idx_recordings_workflow", "workflow_id"),
        Index(
            "idx_recordings_deleted", "purge_at", postgresql_where=text("deleted_at IS NOT NULL")
        ),
        Index("idx_recordings_size", "size_bytes", "id"),
        Index("idx_recordings_duration", "duration_s", "id"),
        Index(
            "idx_recordings_words",
            *SEARCHED,
            postgresql_using="gin",
            postgresql_ops=dict.fromkeys(SEARCHED, "gin_trgm_ops"),
        ),
        CheckConstraint(_one_of("status", Status), "status"),
        CheckConstraint(_one_of("step", Step, or_empty=True), "step"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    streamer_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("streamers.id", ondelete="SET NULL")
    )
    streamer_login: Mapped[str | None]
    streamer_name: Mapped[str] = mapped_column(default="")
    stream_id: Mapped[UUID | None] = mapped_column(ForeignKey("streams.id", ondelete="SET NULL"))
    continues_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("recordings.id", ondelete="SET NULL")
    )
    source_url: Mapped[str]
    source_key: Mapped[str]
    # True until the recording closes, and not again when it is processed once more: by then another
    # recording may stand for the source.
    holds_source: Mapped[bool] = mapped_column(default=True)
    platform: Mapped[str] = mapped_column(default="")
    workflow_id: Mapped[str]
    started_by: Mapped[str] = mapped_column(default="person")
    quality: Mapped[str] = mapped_column(default="best")
    variant: Mapped[str | None]
    codec: Mapped[str | None]
    title: Mapped[str] = mapped_column(default="")
    category: Mapped[str] = mapped_column(default="")
    status: Mapped[str] = mapped_column(default=str(Status.DETECTING))
    step: Mapped[str] = mapped_column(default=str(Step.DETECT))
    reason: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]
    duration_s: Mapped[float] = mapped_column(default=0.0)
    size_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    bitrate_bps: Mapped[int] = mapped_column(BigInteger, default=0)
    directory: Mapped[str | None]
    path: Mapped[str | None]
    parts_gone_at: Mapped[datetime | None]
    series: Mapped[str | None]
    episode_day: Mapped[date | None]
    episode: Mapped[int | None]
    totals: Mapped[dict[str, Any] | None]
    progress_at: Mapped[datetime | None]
    """When the recorder last said how far it is."""
    watched_at: Mapped[datetime | None]
    """When somebody last fetched parts of it to play them."""
    verified_at: Mapped[datetime | None]
    verification: Mapped[dict[str, Any] | None]
    """What a later look at the final file came to."""
    locked: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Is deleted by nobody until it is unlocked."""
    watched: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    position_s: Mapped[float] = mapped_column(default=0.0, server_default=text("0"))
    """Where somebody stopped watching."""
    deleted_at: Mapped[datetime | None]
    deleted_why: Mapped[str] = mapped_column(default="", server_default="")
    purge_at: Mapped[datetime | None]
    """From when on its files may go; until then it can be had back."""
    chapters: Mapped[list[dict[str, Any]] | None]
    report: Mapped[dict[str, Any] | None]

    # "raise": a list that forgot to ask for them must fail in a test, not send N + 1 queries.
    stream: Mapped[Stream | None] = relationship(lazy="raise")
    steps: Mapped[list[RecordingStep]] = relationship(lazy="raise", passive_deletes=True)
    events: Mapped[list[StreamEvent]] = relationship(
        lazy="raise", passive_deletes=True, order_by="StreamEvent.timestamp, StreamEvent.id"
    )
    parts: Mapped[list[Part]] = relationship(
        lazy="raise", passive_deletes=True, order_by="Part.number"
    )
    gaps: Mapped[list[Gap]] = relationship(
        lazy="raise", passive_deletes=True, order_by="Gap.number"
    )
    ads: Mapped[list[AdBreak]] = relationship(
        lazy="raise", passive_deletes=True, order_by="AdBreak.number"
    )

    @property
    def is_open(self) -> bool:
        return self.status not in CLOSED


class Part(Base):
    """One contiguous file of a recording; the row outlives the file."""

    __tablename__ = "parts"

    recording_id: Mapped[UUID] = mapped_column(
        ForeignKey("recordings.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    duration_s: Mapped[float]
    started_at: Mapped[datetime | None]
    checksum: Mapped[str] = mapped_column(default="")


class Gap(Base):
    """Media that should be there and is not. `start_s` counts on the recording's media clock."""

    __tablename__ = "gaps"
    __table_args__ = (CheckConstraint(_one_of("cause", GapCause), "cause"),)

    recording_id: Mapped[UUID] = mapped_column(
        ForeignKey("recordings.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    start_s: Mapped[float]
    duration_s: Mapped[float]
    cause: Mapped[str]
    at: Mapped[datetime | None]


class AdBreak(Base):
    __tablename__ = "ads"

    recording_id: Mapped[UUID] = mapped_column(
        ForeignKey("recordings.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    start_s: Mapped[float]
    duration_s: Mapped[float]
    kind: Mapped[str]


class RecordingStep(Base):
    """Where one step of a pipeline stands; `progress` runs from 0 to 1."""

    __tablename__ = "recording_steps"
    __table_args__ = (
        CheckConstraint(_one_of("name", Step), "name"),
        CheckConstraint(_one_of("state", StepState), "state"),
        Index(
            "idx_recording_steps_attention",
            "state",
            postgresql_where=text("state IN ('parked', 'failed')"),
        ),
    )

    recording_id: Mapped[UUID] = mapped_column(
        ForeignKey("recordings.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(default=str(StepState.WAITING))
    attempt: Mapped[int] = mapped_column(default=0)
    progress: Mapped[float | None]
    speed: Mapped[float | None]
    """Seconds of media per second."""
    eta_s: Mapped[float | None]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    next_retry_at: Mapped[datetime | None]
    error: Mapped[str] = mapped_column(default="")


class StreamEvent(Base):
    """What a channel said, recorded or not; chapters are made of it."""

    __tablename__ = "stream_events"
    __table_args__ = (
        Index("idx_stream_events_stream_time", "stream_id", "timestamp"),
        Index("idx_stream_events_recording_time", "recording_id", "timestamp"),
        Index("idx_stream_events_streamer_time", "streamer_id", "timestamp"),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    stream_id: Mapped[UUID | None] = mapped_column(ForeignKey("streams.id", ondelete="SET NULL"))
    recording_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("recordings.id", ondelete="CASCADE")
    )
    streamer_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("streamers.id", ondelete="SET NULL")
    )
    timestamp: Mapped[datetime]
    kind: Mapped[str] = mapped_column(default="channel")
    title: Mapped[str] = mapped_column(default="")
    category: Mapped[str] = mapped_column(default="")


class Notification(Base):
    """One message to one target. `target` is its name: the URL holds the target's token."""

    __tablename__ = "notifications"
    __table_args__ = (
        UniqueConstraint("recording_id", "event", "target"),
        CheckConstraint("state IN ('queued', 'sent', 'failed')", "state"),
        Index("idx_notifications_queued", "id", postgresql_where=text("state = 'queued'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    recording_id: Mapped[UUID] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"))
    event: Mapped[str]
    target: Mapped[str]
    state: Mapped[str] = mapped_column(default="queued")
    attempts: Mapped[int] = mapped_column(default=0)
    error: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ended_at: Mapped[datetime | None]


class InboxMessage(Base):
    """A message of EventSub, kept before it is answered and worked off afterwards.

    Done ones stay for a while, since Twitch may send them again."""

    __tablename__ = "inbox"
    __table_args__ = (
        UniqueConstraint("message_id"),
        CheckConstraint("state IN ('waiting', 'done', 'dead')", "state"),
        Index("idx_inbox_waiting", "next_at", postgresql_where=text("state = 'waiting'")),
        Index("idx_inbox_received", "received_at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    message_id: Mapped[str]
    source: Mapped[str]
    """`webhook`, `conduit` or `websocket`."""
    kind: Mapped[str]
    """`notification` or `revocation`."""
    type: Mapped[str]
    """The subscription's type, such as `stream.online`."""
    subscription_id: Mapped[str] = mapped_column(server_default="")
    sent_at: Mapped[datetime]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    payload: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(server_default="waiting")
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    next_at: Mapped[datetime] = mapped_column(server_default=func.now())
    error: Mapped[str] = mapped_column(server_default="")
    done_at: Mapped[datetime | None]


class DeadLetter(Base):
    """What was tried often enough and now needs a person. `key` names the thing it is about."""

    __tablename__ = "dead_letters"
    __table_args__ = (
        UniqueConstraint("key"),
        CheckConstraint("kind IN ('inbox', 'notification')", "kind"),
        CheckConstraint("state IN ('waiting', 'retried', 'discarded')", "state"),
        Index("idx_dead_letters_waiting", "id", postgresql_where=text("state = 'waiting'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    kind: Mapped[str]
    key: Mapped[str]
    title: Mapped[str]
    """One line for a list, without secrets."""
    error: Mapped[str] = mapped_column(server_default="")
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    state: Mapped[str] = mapped_column(server_default="waiting")
    reason: Mapped[str] = mapped_column(server_default="")
    first_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Credential(Base):
    """A stored secret. `sealed` opens only with the key and in the place `credentials.<name>`."""

    __tablename__ = "credentials"

    name: Mapped[str] = mapped_column(primary_key=True)
    """`app_token`, `user_token`, `browser_token`, `eventsub_secret`, …"""
    sealed: Mapped[str]
    about: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """What may be shown: login, user id, scopes, error."""
    valid: Mapped[bool] = mapped_column(server_default=text("true"))
    expires_at: Mapped[datetime | None]
    validated_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PushSubscription(Base):
    """A browser that wants to hear. `sealed` opens in the place `push_subscriptions.<id>`."""

    __tablename__ = "push_subscriptions"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    endpoint_hash: Mapped[str] = mapped_column(unique=True)
    """SHA-256 of the endpoint in hexadecimal digits, so that a browser is there once."""
    sealed: Mapped[str]
    shown: Mapped[str]
    """The push service's host."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SignIn(Base):
    """A connection with Twitch that somebody has begun: a device code, or a `state` on its way."""

    __tablename__ = "sign_ins"
    __table_args__ = (CheckConstraint("kind IN ('device', 'code')", "kind"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    """SHA-256 of the secret that the browser holds, in hexadecimal digits."""
    kind: Mapped[str]
    sealed: Mapped[str] = mapped_column(server_default="")
    about: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    state: Mapped[str] = mapped_column(server_default="waiting")
    error: Mapped[str] = mapped_column(server_default="")
    expires_at: Mapped[datetime]


class Subscription(Base):
    """What we want to hear of one channel, and what Twitch says of it."""

    __tablename__ = "subscriptions"
    __table_args__ = (Index("idx_subscriptions_twitch_id", "subscription_id"),)

    user_id: Mapped[str] = mapped_column(primary_key=True)
    """Twitch's id of the channel."""
    type: Mapped[str] = mapped_column(primary_key=True)
    subscription_id: Mapped[str] = mapped_column(server_default="")
    transport: Mapped[str] = mapped_column(server_default="")
    status: Mapped[str] = mapped_column(server_default="")
    """Twitch's word, such as `enabled`; empty while there is no subscription."""
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    next_at: Mapped[datetime] = mapped_column(server_default=func.now())
    error: Mapped[str] = mapped_column(server_default="")
    checked_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Fact(Base):
    """What one process found out and the others show: transport in use, circuits, last poll."""

    __tablename__ = "facts"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[dict[str, Any]]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
