"""What people do with a library: lock, watch, delete, search, many at once; their preferences."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
NO = sa.text("false")
RECORDING_COLUMNS: tuple[sa.Column[Any], ...] = (
    sa.Column("locked", sa.Boolean(), server_default=NO, nullable=False),
    sa.Column("watched", sa.Boolean(), server_default=NO, nullable=False),
    sa.Column("position_s", sa.Double(), server_default=sa.text("0"), nullable=False),
    sa.Column("deleted_at", TIME, nullable=True),
    sa.Column("deleted_why", sa.Text(), server_default="", nullable=False),
    sa.Column("purge_at", TIME, nullable=True),
)
SEARCHED = ["title", "category", "streamer_name"]
SORTED = {"size": ["size_bytes", "id"], "duration": ["duration_s", "id"]}


def upgrade() -> None:
    op.create_table(
        "preferences",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", postgresql.JSONB(), nullable=False),
        sa.Column("updated_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_preferences")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("wanted", postgresql.JSONB(), nullable=False),
        sa.Column("state", sa.Text(), server_default="running", nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("last_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", TIME, server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", TIME, nullable=True),
        sa.CheckConstraint("state IN ('running', 'done')", name=op.f("ck_jobs_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    for column in RECORDING_COLUMNS:
        op.add_column("recordings", column)
    op.add_column("streamers", sa.Column("retention_count", sa.Integer(), nullable=True))
    op.add_column("streamers", sa.Column("retention_bytes", sa.BigInteger(), nullable=True))
    op.create_index(
        "idx_recordings_deleted",
        "recordings",
        ["purge_at"],
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    for name, columns in SORTED.items():
        op.create_index(f"idx_recordings_{name}", "recordings", columns)
    _index_words()


def _index_words() -> None:
    """Search finds parts of words. A server without pg_trgm, or where it is not ours to add, reads
    the rows instead: slower, and no reason not to start."""
    op.execute(
        """
        DO $$ BEGIN
            CREATE EXTENSION IF NOT EXISTS pg_trgm;
        EXCEPTION WHEN OTHERS THEN
            RAISE NOTICE 'search works without an index: %', SQLERRM;
        END $$
        """
    )
    found = op.get_bind().scalar(sa.text("SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'"))
    if found:
        op.create_index(
            "idx_recordings_words",
            "recordings",
            SEARCHED,
            postgresql_using="gin",
            postgresql_ops=dict.fromkeys(SEARCHED, "gin_trgm_ops"),
        )


def downgrade() -> None:
    op.execute("DROP INDEX IF EXISTS idx_recordings_words")
    for name in (*SORTED, "deleted"):
        op.drop_index(f"idx_recordings_{name}", "recordings")
    for table, columns in (
        ("recordings", [column.name for column in RECORDING_COLUMNS]),
        ("streamers", ["retention_count", "retention_bytes"]),
    ):
        for column in columns:
            op.drop_column(table, column)
    op.drop_table("jobs")
    op.drop_table("preferences")
