"""The first tables: streamers, streams, recordings and what belongs to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "streamers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("platform_user_id", sa.Text(), nullable=True),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("quality", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint(
            "platform <> 'twitch' OR login ~ '^[A-Za-z0-9_]{1,25}$'",
            name=op.f("ck_streamers_twitch_login"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_streamers")),
    )
    op.create_index(
        "uq_streamers_platform_login",
        "streamers",
        ["platform", sa.literal_column("lower(login)")],
        unique=True,
    )
    op.create_table(
        "streams",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("streamer_id", sa.Uuid(), nullable=True),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("platform_stream_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["streamer_id"],
            ["streamers.id"],
            name=op.f("fk_streams_streamer_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_streams")),
        sa.UniqueConstraint(
            "platform", "platform_stream_id", name=op.f("uq_streams_platform_platform_stream_id")
        ),
    )
    op.create_index(
        "idx_streams_streamer_active", "streams", ["streamer_id", "ended_at"], unique=False
    )
    op.create_table(
        "recordings",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("streamer_id", sa.Uuid(), nullable=True),
        sa.Column("streamer_login", sa.Text(), nullable=True),
        sa.Column("streamer_name", sa.Text(), nullable=False),
        sa.Column("stream_id", sa.Uuid(), nullable=True),
        sa.Column("continues_id", sa.Uuid(), nullable=True),
        sa.Column("source_url", sa.Text(), nullable=False),
        sa.Column("source_key", sa.Text(), nullable=False),
        sa.Column("holds_source", sa.Boolean(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("workflow_id", sa.Text(), nullable=False),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.Column("quality", sa.Text(), nullable=False),
        sa.Column("variant", sa.Text(), nullable=True),
        sa.Column("codec", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("duration_s", sa.Double(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("bitrate_bps", sa.BigInteger(), nullable=False),
        sa.Column("directory", sa.Text(), nullable=True),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("parts_gone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("series", sa.Text(), nullable=True),
        sa.Column("episode_day", sa.Date(), nullable=True),
        sa.Column("episode", sa.Integer(), nullable=True),
        sa.Column("totals", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("chapters", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("report", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.CheckConstraint(
            "status IN ('detecting', 'recording', 'reconnecting', 'processing', "
            "'needs_attention', 'completed', 'failed')",
            name=op.f("ck_recordings_status"),
        ),
        sa.CheckConstraint(
            "step IN ('', 'detect', 'record', 'remux', 'thumbnails', 'chapters', "
            "'sidecars', 'notify')",
            name=op.f("ck_recordings_step"),
        ),
        sa.ForeignKeyConstraint(
            ["continues_id"],
            ["recordings.id"],
            name=op.f("fk_recordings_continues_id"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["stream_id"], ["streams.id"], name=op.f("fk_recordings_stream_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(
            ["streamer_id"],
            ["streamers.id"],
            name=op.f("fk_recordings_streamer_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recordings")),
    )
    op.create_index("idx_recordings_status", "recordings", ["status", "id"], unique=False)
    op.create_index(
        "idx_recordings_stream_status", "recordings", ["stream_id", "status"], unique=False
    )
    op.create_index("idx_recordings_streamer", "recordings", ["streamer_id", "id"], unique=False)
    op.create_index("idx_recordings_workflow", "recordings", ["workflow_id"], unique=False)
    op.create_index(
        "uq_recordings_episode",
        "recordings",
        [sa.literal_column("lower(series)"), "episode_day", "episode"],
        unique=True,
    )
    op.create_index(
        "uq_recordings_open_source",
        "recordings",
        ["source_key"],
        unique=True,
        postgresql_where=sa.text("holds_source"),
    )
    op.create_table(
        "ads",
        sa.Column("recording_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("start_s", sa.Double(), nullable=False),
        sa.Column("duration_s", sa.Double(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["recording_id"],
            ["recordings.id"],
            name=op.f("fk_ads_recording_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("recording_id", "number", name=op.f("pk_ads")),
    )
    op.create_table(
        "gaps",
        sa.Column("recording_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("start_s", sa.Double(), nullable=False),
        sa.Column("duration_s", sa.Double(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "cause IN ('network', 'playlist', 'worker', 'disk', 'proxy', 'source')",
            name=op.f("ck_gaps_cause"),
        ),
        sa.ForeignKeyConstraint(
            ["recording_id"],
            ["recordings.id"],
            name=op.f("fk_gaps_recording_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("recording_id", "number", name=op.f("pk_gaps")),
    )
    op.create_table(
        "notifications",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("recording_id", sa.Uuid(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('queued', 'sent', 'failed')", name=op.f("ck_notifications_state")
        ),
        sa.ForeignKeyConstraint(
            ["recording_id"],
            ["recordings.id"],
            name=op.f("fk_notifications_recording_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
        sa.UniqueConstraint(
            "recording_id",
            "event",
            "target",
            name=op.f("uq_notifications_recording_id_event_target"),
        ),
    )
    op.create_index(
        "idx_notifications_queued",
        "notifications",
        ["id"],
        unique=False,
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_table(
        "parts",
        sa.Column("recording_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("duration_s", sa.Double(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("checksum", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["recording_id"],
            ["recordings.id"],
            name=op.f("fk_parts_recording_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("recording_id", "number", name=op.f("pk_parts")),
    )
    op.create_table(
        "recording_steps",
        sa.Column("recording_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("progress", sa.Double(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "name IN ('detect', 'record', 'remux', 'thumbnails', 'chapters', 'sidecars', 'notify')",
            name=op.f("ck_recording_steps_name"),
        ),
        sa.CheckConstraint(
            "state IN ('waiting', 'running', 'retrying', 'parked', 'done', 'skipped', 'failed')",
            name=op.f("ck_recording_steps_state"),
        ),
        sa.ForeignKeyConstraint(
            ["recording_id"],
            ["recordings.id"],
            name=op.f("fk_recording_steps_recording_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("recording_id", "name", name=op.f("pk_recording_steps")),
    )
    op.create_index(
        "idx_recording_steps_attention",
        "recording_steps",
        ["state"],
        unique=False,
        postgresql_where=sa.text("state IN ('parked', 'failed')"),
    )
    op.create_table(
        "stream_events",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("stream_id", sa.Uuid(), nullable=True),
        sa.Column("recording_id", sa.Uuid(), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["recording_id"],
            ["recordings.id"],
            name=op.f("fk_stream_events_recording_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["stream_id"],
            ["streams.id"],
            name=op.f("fk_stream_events_stream_id"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stream_events")),
    )
    op.create_index(
        "idx_stream_events_recording_time",
        "stream_events",
        ["recording_id", "timestamp"],
        unique=False,
    )
    op.create_index(
        "idx_stream_events_stream_time", "stream_events", ["stream_id", "timestamp"], unique=False
    )
