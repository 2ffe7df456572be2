"""What Alembic runs; the connection comes from `streamvault.db.migrate`."""

from __future__ import annotations

from alembic import context

from streamvault.db import models_access  # noqa: F401  # its tables, too
from streamvault.db.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    compare_server_default=True,
)

with context.begin_transaction():
    context.run_migrations()
