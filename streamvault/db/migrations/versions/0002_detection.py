"""Detection: EventSub's inbox and subscriptions, stored secrets, what is known of each streamer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "categories",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("art_url", sa.Text(), server_default="", nullable=False),
        sa.Column("image", sa.Text(), server_default="", nullable=False),
        sa.Column("image_source", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "fetched_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_categories")),
    )
    op.create_table(
        "credentials",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("about", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("valid", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("validated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_credentials")),
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "first_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column(
            "last_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint("kind IN ('inbox', 'notification')", name=op.f("ck_dead_letters_kind")),
        sa.CheckConstraint(
            "state IN ('waiting', 'retried', 'discarded')", name=op.f("ck_dead_letters_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
        sa.UniqueConstraint("key", name=op.f("uq_dead_letters_key")),
    )
    op.create_index(
        "idx_dead_letters_waiting",
        "dead_letters",
        ["id"],
        unique=False,
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_table(
        "facts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", postgresql.JSONB(), nullable=False),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_facts")),
    )
    op.create_table(
        "inbox",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("subscription_id", sa.Text(), server_default="", nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("payload", postgresql.JSONB(), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "next_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('waiting', 'done', 'dead')", name=op.f("ck_inbox_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbox")),
        sa.UniqueConstraint("message_id", name=op.f("uq_inbox_message_id")),
    )
    op.create_index("idx_inbox_received", "inbox", ["received_at"], unique=False)
    op.create_index(
        "idx_inbox_waiting",
        "inbox",
        ["next_at"],
        unique=False,
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_table(
        "sign_ins",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), server_default="", nullable=False),
        sa.Column("about", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('device', 'code')", name=op.f("ck_sign_ins_kind")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_ins")),
    )
    op.create_table(
        "subscriptions",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("subscription_id", sa.Text(), server_default="", nullable=False),
        sa.Column("transport", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.Text(), server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "next_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "checked_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("user_id", "type", name=op.f("pk_subscriptions")),
    )
    op.create_index(
        "idx_subscriptions_twitch_id", "subscriptions", ["subscription_id"], unique=False
    )
    op.add_column("stream_events", sa.Column("streamer_id", sa.Uuid(), nullable=True))
    op.alter_column("stream_events", "recording_id", existing_type=sa.Uuid(), nullable=True)
    op.create_index(
        "idx_stream_events_streamer_time",
        "stream_events",
        ["streamer_id", "timestamp"],
        unique=False,
    )
    op.create_foreign_key(
        op.f("fk_stream_events_streamer_id"),
        "stream_events",
        "streamers",
        ["streamer_id"],
        ["id"],
        ondelete="SET NULL",
    )
    op.add_column("streamers", sa.Column("codecs", sa.Text(), server_default="", nullable=False))
    op.add_column(
        "streamers",
        sa.Column("filters", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
    )
    op.add_column("streamers", sa.Column("end_grace_s", sa.Double(), nullable=True))
    op.add_column("streamers", sa.Column("naming", sa.Text(), server_default="", nullable=False))
    op.add_column("streamers", sa.Column("retention_days", sa.Integer(), nullable=True))
    op.add_column(
        "streamers", sa.Column("live_stream_id", sa.Text(), server_default="", nullable=False)
    )
    op.add_column("streamers", sa.Column("live_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("streamers", sa.Column("title", sa.Text(), server_default="", nullable=False))
    op.add_column("streamers", sa.Column("category", sa.Text(), server_default="", nullable=False))
    op.add_column(
        "streamers", sa.Column("category_id", sa.Text(), server_default="", nullable=False)
    )
    op.add_column(
        "streamers", sa.Column("avatar_url", sa.Text(), server_default="", nullable=False)
    )
    op.add_column("streamers", sa.Column("image", sa.Text(), server_default="", nullable=False))
    op.add_column(
        "streamers", sa.Column("image_source", sa.Text(), server_default="", nullable=False)
    )
    op.add_column("streamers", sa.Column("profile_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("streamers", sa.Column("problem", sa.Text(), server_default="", nullable=False))
    op.create_index(
        "idx_streamers_enabled",
        "streamers",
        ["platform"],
        unique=False,
        postgresql_where=sa.text("enabled"),
    )
    # Until now nothing kept two names of one account apart: the one added last keeps the id.
    op.execute(
        "UPDATE streamers SET platform_user_id = NULL FROM streamers AS newer"
        " WHERE newer.platform = streamers.platform AND newer.id > streamers.id"
        " AND newer.platform_user_id = streamers.platform_user_id"
    )
    op.create_index(
        "uq_streamers_platform_user", "streamers", ["platform", "platform_user_id"], unique=True
    )
