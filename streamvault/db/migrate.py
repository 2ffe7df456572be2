"""Bring the schema up to date at start; any number of processes may try at once."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import Connection, text

from streamvault.db.session import Database
from streamvault.errors import Conflict

# Any fixed number; all processes of one database take the same lock.
LOCK = 0x5356_4D49_4752


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def head() -> str:
    """The revision this release needs."""
    revision = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert revision
    return revision


async def upgrade(database_url: str) -> None:
    """Run what is missing, in one transaction: all of it or nothing.

    Waits for the database as `Database.connect` does. Raises DependencyUnavailable, SettingsError,
    and Conflict when a newer release has already changed the schema."""
    # No time limit: another process may hold the lock for as long as its migration takes.
    database = Database(database_url, pool_size=1, max_overflow=0, command_timeout_s=None)
    try:
        await database.connect()
        async with database.engine.begin() as connection:
            # The lock ends with the transaction, so a killed process cannot leave it behind.
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
            await connection.run_sync(_upgrade)
    finally:
        await database.close()


def _upgrade(connection: Connection) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except (CommandError, ResolutionError) as error:
        raise Conflict(
            "the database was made by a newer StreamVault", hint="start that release again"
        ) from error
