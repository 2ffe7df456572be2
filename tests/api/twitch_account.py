"""An API that is an application of the fake Twitch's."""

from __future__ import annotations

from typing import Any

import httpx
from sqlalchemy import text

from streamvault.db.session import Database
from tests.fake_twitch.client import Application

PREFIX = "STREAMVAULT_"
LOCALHOST = "http://localhost:8080"
TABLES = ("credentials", "sign_ins", "facts")


def settings_of(application: Application) -> dict[str, Any]:
    return {
        name.removeprefix(PREFIX).lower(): value for name, value in application.env.items() if value
    }


async def status(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/api/twitch/status")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def everything_stored(db: Database) -> str:
    """Every row of the tables that hold secrets, as one text."""
    async with db.begin() as session:
        rows = [await session.scalars(text(f"SELECT {t}::text FROM {t}")) for t in TABLES]
        return "\n".join(line for found in rows for line in found)
