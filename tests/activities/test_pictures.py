from __future__ import annotations

import io
import os
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest
from aiohttp import web
from PIL import Image

from activities.pictures import Pictures
from activities.twitch_access import TwitchAccess
from streamvault.db import pictures, streamers
from streamvault.db.models import Streamer
from streamvault.db.session import Database
from streamvault.db.streamers import NewStreamer
from streamvault.errors import NotFound
from tests.activities.twitch_access import open_twitch
from tests.fake_twitch.client import FakeTwitch
from tests.fake_twitch.tls import Certificates, make_certificates

PNG = {"Content-Type": "image/png"}


def square(colour: str) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(data, "PNG")
    return data.getvalue()


@dataclass
class Cdn:
    """An https server with pictures, which counts what it is asked for."""

    certificates: Certificates
    netloc: str = ""
    answers: dict[str, web.Response] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def put(self, path: str, body: bytes = b"", status: int = 200, **headers: str) -> str:
        """The address of it."""
        self.answers[path] = web.Response(body=body, status=status, headers={**PNG, **headers})
        return f"https://{self.netloc}{path}"

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        kept = self.answers.get(request.path)
        if kept is None:
            return web.Response(status=404)
        return web.Response(body=kept.body, status=kept.status, headers=kept.headers)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Cdn]:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificates.chain, self.certificates.key)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.netloc = "{}:{}".format(*runner.addresses[0][:2])
        try:
            yield self
        finally:
            await runner.cleanup()


@pytest.fixture
async def cdn(tmp_path: Path) -> AsyncIterator[Cdn]:
    async with Cdn(make_certificates(tmp_path / "tls")).serving() as serving:
        yield serving


async def no_twitch() -> TwitchAccess | None:
    return None


@pytest.fixture
def keeper(db: Database, cdn: Cdn, tmp_path: Path) -> Pictures:
    hosts = frozenset({cdn.netloc})
    return Pictures(db, tmp_path / "images", no_twitch, cdn.certificates.ca, hosts)


async def follow(db: Database, login: str, avatar_url: str) -> UUID:
    async with db.begin() as session:
        url = f"https://www.twitch.tv/{login}"
        new = NewStreamer("twitch", login, login, url, user_id=login, avatar_url=avatar_url)
        row, _ = await streamers.add_streamer(session, new)
        if row.avatar_url != avatar_url:
            row.avatar_url = avatar_url
        return row.id


async def row_of(db: Database, streamer_id: UUID) -> Streamer:
    async with db.begin() as session:
        return await streamers.get_streamer(session, streamer_id)


def colour_of(path: Path) -> tuple[int, ...]:
    with Image.open(path) as image:
        red, green, blue = image.convert("RGB").getpixel((30, 30))  # type: ignore[misc]
    return tuple(round(part / 255) for part in (red, green, blue))


def age(folder: Path) -> None:
    """Two hours go by."""
    before = time.time() - 7200
    for path in folder.iterdir():
        os.utime(path, (before, before))


async def test_an_avatar_is_fetched_once(db: Database, cdn: Cdn, keeper: Pictures) -> None:
    red = await follow(db, "red", cdn.put("/red.png", square("red")))
    blue = await follow(db, "blue", cdn.put("/blue.png", square("blue")))
    assert await keeper.refresh() == 2
    assert colour_of(keeper.folder / (await row_of(db, red)).image) == (1, 0, 0)
    assert colour_of(keeper.folder / (await row_of(db, blue)).image) == (0, 0, 1)
    assert await keeper.refresh() == 0
    assert sorted(cdn.asked) == ["/blue.png", "/red.png"]
    assert len(list(keeper.folder.iterdir())) == 2, "nothing else is left"


async def test_a_new_avatar_takes_the_old_ones_place(
    db: Database, cdn: Cdn, keeper: Pictures
) -> None:
    streamer_id = await follow(db, "alice", cdn.put("/old.png", square("red")))
    await keeper.refresh()
    old = (await row_of(db, streamer_id)).image
    await follow(db, "alice", cdn.put("/new.png", square("blue")))
    assert await keeper.refresh() == 1
    new = (await row_of(db, streamer_id)).image
    assert colour_of(keeper.folder / new) == (0, 0, 1)
    assert (keeper.folder / old).exists(), "a browser may be on its way to it"
    age(keeper.folder)
    (keeper.folder / ".new-left-behind").mkdir()
    await keeper.refresh()
    assert {path.name for path in keeper.folder.iterdir()} == {new, ".new-left-behind"}
    age(keeper.folder)
    await keeper.refresh()
    assert {path.name for path in keeper.folder.iterdir()} == {new}


async def test_an_avatar_that_was_taken_away_goes(db: Database, cdn: Cdn, keeper: Pictures) -> None:
    streamer_id = await follow(db, "alice", cdn.put("/a.png", square("red")))
    await keeper.refresh()
    await follow(db, "alice", "")
    await keeper.refresh()
    assert (await row_of(db, streamer_id)).image == ""


async def test_a_picture_lost_from_the_disk_is_fetched_again(
    db: Database, cdn: Cdn, keeper: Pictures
) -> None:
    streamer_id = await follow(db, "alice", cdn.put("/a.png", square("red")))
    await keeper.refresh()
    image = keeper.folder / (await row_of(db, streamer_id)).image
    image.unlink()
    assert await keeper.refresh() == 1
    assert image.exists()


@pytest.mark.parametrize(
    "address",
    [
        "http://{netloc}/a.png",
        "https://localhost:{port}/a.png",
        "https://{netloc}@localhost:{port}/a.png",
        "https://localhost:{port}/?{netloc}",
        "https://user@{netloc}/a.png",
        "//{netloc}/a.png",
        "file:///etc/passwd",
        "https://127.1:{port}/a.png",
    ],
)
async def test_no_other_address_than_the_cdns_is_asked(
    db: Database, cdn: Cdn, keeper: Pictures, address: str
) -> None:
    cdn.put("/a.png", square("red"))
    port = cdn.netloc.rpartition(":")[2]
    streamer_id = await follow(db, "alice", address.format(netloc=cdn.netloc, port=port))
    assert await keeper.refresh() == 0
    row = await row_of(db, streamer_id)
    assert (row.image, row.image_source) == ("", row.avatar_url)
    assert cdn.asked == []


async def test_without_saying_where_only_twitchs_own_cdn_is_asked(
    db: Database, cdn: Cdn, tmp_path: Path
) -> None:
    await follow(db, "alice", cdn.put("/a.png", square("red")))
    assert await Pictures(db, tmp_path / "i", no_twitch, cdn.certificates.ca).refresh() == 0
    assert cdn.asked == []


async def test_what_is_no_picture_is_not_asked_for_twice(
    db: Database, cdn: Cdn, keeper: Pictures
) -> None:
    good = cdn.put("/good.png", square("red"))
    bad = {
        "html": cdn.put("/html", b"<html>"),
        "gone": cdn.put("/gone", status=404),
        "moved": cdn.put("/moved", status=302, Location=good),
        "large": cdn.put("/large", square("red") + bytes(2 * 1024 * 1024)),
        "huge": cdn.put("/huge", bytes(8 * 1024 * 1024)),
        "empty": cdn.put("/empty"),
    }
    ids = {login: await follow(db, login, url) for login, url in bad.items()}
    ids["good"] = await follow(db, "good", good)
    assert await keeper.refresh() == 1
    asked = sorted(cdn.asked)
    await keeper.refresh()
    rows = {login: await row_of(db, streamer_id) for login, streamer_id in ids.items()}
    assert [login for login, row in rows.items() if row.image] == ["good"]
    again = cdn.asked[len(asked) :]
    # More than the HTTP client takes at all counts as an answer that makes no sense.
    assert again == ["/huge"]


async def test_a_cdn_that_is_away_is_asked_again_and_keeps_what_we_have(
    db: Database, cdn: Cdn, keeper: Pictures
) -> None:
    streamer_id = await follow(db, "alice", cdn.put("/a.png", square("red")))
    await keeper.refresh()
    before = (await row_of(db, streamer_id)).image
    await follow(db, "alice", cdn.put("/b.png", status=503))
    for number in range(40):
        await follow(db, f"other{number}", cdn.put(f"/{number}.png", status=500))
    cdn.asked.clear()
    assert await keeper.refresh() == 0
    assert len(cdn.asked) == 20, "the first batch says enough"
    assert (await row_of(db, streamer_id)).image == before
    for number in range(40):
        cdn.put(f"/{number}.png", square("blue"))
    cdn.put("/b.png", square("blue"))
    assert await keeper.refresh() == 41


async def test_categories_get_their_art(
    db: Database, fake_twitch: FakeTwitch, cdn: Cdn, keeper: Pictures, tmp_path: Path
) -> None:
    channel = fake_twitch.channel(category="Chess", category_id="743")
    streamer_id = await follow(db, channel.login, "")
    cdn.put("/ttv-boxart/743-285x380.jpg", square("blue"))
    async with db.begin() as session:
        said = {"title": "", "category": "Chess"}
        await streamers.note_channel(session, streamer_id, category_id="743", **said)
        other = await follow(db, "other", "")
    async with db.begin() as session:
        await streamers.note_channel(session, other, category_id="no-such", **said)
    async with open_twitch(fake_twitch, db, tmp_path) as twitch:
        keeper.twitch = twitch.door
        with fake_twitch.knobs(images_url=f"https://{cdn.netloc}"):
            assert await keeper.refresh() == 1
            assert await keeper.refresh() == 0
        assert twitch.calls("games") == 1
    async with db.begin() as session:
        chess = await pictures.get_category(session, "743")
        unknown = await pictures.get_category(session, "no-such")
        with pytest.raises(NotFound):
            await pictures.get_category(session, "1")
    assert (chess.name, colour_of(keeper.folder / chess.image)) == ("Chess", (0, 0, 1))
    assert unknown.image == ""


async def test_avatars_are_fetched_while_helix_is_away(
    db: Database, fake_twitch: FakeTwitch, cdn: Cdn, keeper: Pictures, tmp_path: Path
) -> None:
    streamer_id = await follow(db, "alice", cdn.put("/a.png", square("red")))
    async with db.begin() as session:
        await streamers.note_channel(
            session, streamer_id, title="", category="Chess", category_id="743"
        )
    async with open_twitch(fake_twitch, db, tmp_path) as twitch:
        keeper.twitch = twitch.door
        twitch.fault("helix.games", "status", status=500)
        assert await keeper.refresh() == 1
