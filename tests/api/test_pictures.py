from __future__ import annotations

from pathlib import Path
from uuid import UUID

import httpx
import pytest

from streamvault.db import pictures
from streamvault.db.pictures import Shown
from streamvault.db.session import Database
from streamvault.settings import Settings

BYTES = b"RIFF....WEBPVP8 as far as anybody asks"
NAME = "0123456789abcdef0123456789abcdef.webp"


@pytest.fixture
def images(settings: Settings) -> Path:
    folder = settings.data_dir / "images"
    folder.mkdir()
    (folder / NAME).write_bytes(BYTES)
    return folder


async def an_avatar(client: httpx.AsyncClient, db: Database, name: str = NAME) -> str:
    """Where a streamer with a cached avatar is."""
    added = (await client.post("/api/streamers", json={"login": "alice"})).json()
    async with db.begin() as session:
        await pictures.note_image(session, Shown(UUID(added["id"]), "u", "", ""), name)
    return f"/api/streamers/{added['id']}"


async def test_an_avatar_is_served_to_be_kept(
    client: httpx.AsyncClient, db: Database, images: Path
) -> None:
    where = await an_avatar(client, db)
    link = (await client.get(where)).json()["avatar"]
    answer = await client.get(link)
    assert (answer.status_code, answer.content) == (200, BYTES)
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"

    bare = await client.get(f"{where}/avatar")
    assert bare.headers["cache-control"] == "private, max-age=3600"
    again = await client.get(f"{where}/avatar", headers={"If-None-Match": bare.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == "private, max-age=3600"
    head = await client.head(f"{where}/avatar")
    assert (head.status_code, head.content) == (200, b"")


async def test_where_there_is_no_picture_a_problem_says_so(
    client: httpx.AsyncClient, db: Database, images: Path
) -> None:
    added = (await client.post("/api/streamers", json={"login": "bob"})).json()
    for path in (
        f"/api/streamers/{added['id']}/avatar",
        "/api/streamers/0/avatar",
        "/api/categories/743/art",
        "/api/categories/..%2f..%2fx/art",
    ):
        answer = await client.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
    assert added["avatar"] is None


async def test_the_art_of_a_category_is_served(
    client: httpx.AsyncClient, db: Database, images: Path
) -> None:
    async with db.begin() as session:
        await pictures.put_category(session, "743", "Chess", "https://static-cdn.jtvnw.net/x")
        await pictures.note_image(session, Shown("743", "u", "", ""), NAME)
    assert (await client.get("/api/categories/743/art")).content == BYTES


@pytest.mark.parametrize("name", ["../secret.key", "link", "folder", "gone.webp"])
async def test_only_a_file_of_the_cache_is_served(
    client: httpx.AsyncClient, db: Database, images: Path, settings: Settings, name: str
) -> None:
    (settings.data_dir / "secret.key").write_text("secret")
    (images / "link").symlink_to("../secret.key")
    (images / "folder").mkdir()
    where = await an_avatar(client, db, name)
    answer = await client.get(f"{where}/avatar")
    assert answer.status_code == 404
    assert "secret" not in answer.text.replace(name.rpartition("/")[2], "")
