"""Proxies; when a recording last grew, was watched, was verified."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
RECORDING_COLUMNS: dict[str, sa.types.TypeEngine[Any]] = {
    "progress_at": TIME,
    "watched_at": TIME,
    "verified_at": TIME,
    "verification": postgresql.JSONB(),
}


def upgrade() -> None:
    op.create_table(
        "proxies",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.Column("has_password", sa.Boolean(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("streamer_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("checked_at", TIME, nullable=True),
        sa.Column("ok", sa.Boolean(), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["streamer_id"],
            ["streamers.id"],
            name=op.f("fk_proxies_streamer_id_streamers"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proxies")),
    )
    op.add_column(
        "streamers", sa.Column("proxy_policy", sa.Text(), server_default="", nullable=False)
    )
    op.create_check_constraint(
        op.f("ck_streamers_proxy_policy"),
        "streamers",
        "proxy_policy IN ('', 'direct', 'proxy-first', 'proxy-only')",
    )
    for name, kind in RECORDING_COLUMNS.items():
        op.add_column("recordings", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    for name in RECORDING_COLUMNS:
        op.drop_column("recordings", name)
    op.drop_constraint(op.f("ck_streamers_proxy_policy"), "streamers")
    op.drop_column("streamers", "proxy_policy")
    op.drop_table("proxies")
