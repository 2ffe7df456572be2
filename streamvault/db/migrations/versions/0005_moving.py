"""Moving recordings: what a job was asked for, what it is at and how far; the speed of a step."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COLUMNS: dict[str, tuple[sa.Column[Any], ...]] = {
    "jobs": (
        sa.Column("options", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("current", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("progress", sa.Double(), nullable=True),
    ),
    "recording_steps": (
        sa.Column("speed", sa.Double(), nullable=True),
        sa.Column("eta_s", sa.Double(), nullable=True),
    ),
}


def upgrade() -> None:
    for table, columns in COLUMNS.items():
        for column in columns:
            op.add_column(table, column)


def downgrade() -> None:
    for table, columns in COLUMNS.items():
        for column in columns:
            op.drop_column(table, column.name)
