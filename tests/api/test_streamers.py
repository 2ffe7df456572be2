from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from streamvault.db import streamers
from streamvault.db.session import Database
from streamvault.settings import Settings
from tests.api.conftest import Opened
from tests.api.twitch_client import TwitchClient, twitch_client
from tests.fake_twitch.client import FakeTwitch

NO_LISTS: dict[str, list[str]] = {
    "title_allow": [],
    "title_deny": [],
    "category_allow": [],
    "category_deny": [],
}
TEMPLATE = "{login}/{year}-{month}/{episode} {title}"


@pytest.fixture
async def twitch(
    fake_twitch: FakeTwitch, make_settings: Callable[..., Settings]
) -> AsyncIterator[TwitchClient]:
    async with twitch_client(fake_twitch, make_settings) as made:
        yield made


@pytest.fixture
async def alice(client: httpx.AsyncClient) -> str:
    """Where a streamer is that is followed."""
    added = await client.post("/api/streamers", json={"login": "alice"})
    return str(added.headers["location"])


async def own(client: httpx.AsyncClient, where: str) -> dict[str, Any]:
    """The settings that are not the default."""
    settings = (await client.get(where)).json()["settings"]
    for setting in settings.values():
        expected = setting["default"] if setting["own"] is None else setting["own"]
        assert setting["value"] == expected
    return {name: s["own"] for name, s in settings.items() if s["own"] is not None}


# ---- without Twitch


async def test_streamers_are_added_changed_and_deleted(
    client: httpx.AsyncClient, opened: Opened
) -> None:
    added = await client.post("/api/streamers", json={"login": "Alice_1"})
    alice = added.json()
    assert added.status_code == 201
    assert added.headers["location"] == f"/api/streamers/{alice['id']}"
    assert (alice["login"], alice["url"]) == ("alice_1", "https://www.twitch.tv/alice_1")
    assert (alice["user_id"], alice["problem"], alice["avatar"]) == (None, "", None)

    for again in ({"login": "ALICE_1"}, {"url": "https://twitch.tv/alice_1"}):
        answer = await client.post("/api/streamers", json=again)
        assert (answer.status_code, answer.json()["id"]) == (200, alice["id"])

    where = f"/api/streamers/{alice['id']}"
    changed = await client.patch(where, json={"enabled": False, "name": "Al"})
    assert changed.json() == {**alice, "enabled": False, "name": "Al"}
    assert (await client.get(where)).json() == changed.json()
    assert (await client.patch(where, json={"login": "bob"})).status_code == 422
    assert [s["id"] for s in (await client.get("/api/streamers")).json()["items"]] == [alice["id"]]

    recording_id = await opened(streamer_id=UUID(alice["id"]), streamer_name="Alice")
    assert (await client.delete(where)).status_code == 204
    assert (await client.get(where)).status_code == 404
    assert (await client.delete(where)).status_code == 404
    kept = (await client.get(f"/api/recordings/{recording_id}")).json()
    assert kept["streamer"] == {"id": None, "login": None, "name": "Alice"}


@pytest.mark.parametrize(
    "login", ["", "a b", "-rf", "@x", "x" * 26, "../x", "name\n", "ä", "a\u202eb", "а", "a%20"]
)
async def test_a_login_is_letters_digits_and_underscores(
    front: httpx.AsyncClient, login: str
) -> None:
    assert (await front.post("/api/streamers", json={"login": login})).status_code == 422


@pytest.mark.parametrize(
    "url",
    [
        "https://user:pw@example.org/live.m3u8",
        "https://a@www.twitch.tv/alice",
        "file:///etc/passwd",
        "hls://file:///etc/passwd",
        "http://127.0.0.1/live.m3u8",
        "http://[::1]/",
        "https://[::1",
        "ftp://www.twitch.tv/../x",
        "-rf",
        "https://example.org/ --player=x",
    ],
)
async def test_an_address_that_is_no_public_source_is_refused(
    front: httpx.AsyncClient, url: str
) -> None:
    answer = await front.post("/api/streamers", json={"url": url})
    assert answer.status_code == 422, answer.text


async def test_an_address_can_be_followed_and_tells_case_apart(client: httpx.AsyncClient) -> None:
    added = [
        (await client.post("/api/streamers", json={"url": url})).json()
        for url in ("https://8.8.8.8/Live.m3u8", "https://8.8.8.8/live.m3u8")
    ]
    assert len({streamer["id"] for streamer in added}) == 2
    assert added[0]["platform"] == "url"


async def test_every_setting_begins_with_its_default(
    client: httpx.AsyncClient, alice: str, settings: Settings
) -> None:
    assert await own(client, alice) == {}
    shown = (await client.get(alice)).json()["settings"]
    assert {name: setting["value"] for name, setting in shown.items()} == {
        "quality": "best",
        "codecs": ["h264"],
        "filters": NO_LISTS,
        "end_grace_s": settings.end_grace_s,
        "naming": "{streamer}/Season {year}/{streamer} - {episode} - {title}",
        "retention_days": 0,
        "retention_count": 0,
        "retention_bytes": 0,
        "proxy_policy": "direct",
    }


async def test_settings_are_set_and_taken_back_one_by_one(
    client: httpx.AsyncClient, alice: str
) -> None:
    chosen: dict[str, Any] = {
        "quality": "720p60",
        "codecs": ["av1", "h264"],
        "filters": {**NO_LISTS, "title_deny": ["rerun", "/^test\\b/"]},
        "end_grace_s": 0,
        "naming": TEMPLATE,
        "retention_days": 30,
    }
    answer = await client.patch(alice, json=chosen)
    assert answer.status_code == 200, answer.text
    assert answer.json()["quality"] == "720p60"
    assert await own(client, alice) == chosen

    await client.patch(alice, json={"filters": {"category_allow": ["Chess"]}})
    chosen["filters"] = {**NO_LISTS, "category_allow": ["Chess"]}
    assert await own(client, alice) == chosen

    for name in list(chosen):
        answer = await client.patch(alice, json={name: None})
        assert answer.status_code == 200, answer.text
        del chosen[name]
        assert await own(client, alice) == chosen


@pytest.mark.parametrize(
    ("change", "pointer", "words"),
    [
        ({"codecs": ["vp9"]}, "/codecs/0", "h265"),
        ({"codecs": ["h264", "h264"]}, "/codecs", "twice"),
        ({"codecs": []}, "/codecs", "at least 1"),
        ({"quality": "--best"}, "/quality", "is no quality"),
        ({"filters": {"title_deny": ["ok", "/(/"]}}, "/filters/title_deny/1", "unclosed group"),
        ({"filters": {"title_deny": [" "]}}, "/filters/title_deny/0", "is empty"),
        ({"filters": {"title_allow": ["x"] * 51}}, "/filters/title_allow", "at most 50"),
        ({"filters": {"mood": ["x"]}}, "/filters/mood", "not permitted"),
        ({"filters": ["x"]}, "/filters", "dictionary"),
        ({"end_grace_s": -1}, "/end_grace_s", "greater than or equal to 0"),
        ({"end_grace_s": 86_401}, "/end_grace_s", "less than or equal"),
        ({"naming": "{streamer}/{title}"}, "/naming", "needs {episode}"),
        ({"naming": "{episode}"}, "/naming", "needs {streamer} or {login}"),
        ({"naming": "{streamer}/{episode.__class__}"}, "/naming", "brace"),
        ({"naming": "../{streamer}/{episode}"}, "/naming", "dot"),
        ({"naming": "/{streamer}/{episode}"}, "/naming", "without a name"),
        ({"naming": ""}, "/naming", "without a name"),
        ({"retention_days": -1}, "/retention_days", "greater than or equal to 0"),
        ({"enabled": None}, "/enabled", "boolean"),
        ({"name": None}, "/name", "string"),
        ({"live": True}, "/live", "not permitted"),
    ],
)
async def test_a_setting_that_cannot_work_is_told_by_its_place(
    client: httpx.AsyncClient, alice: str, change: dict[str, Any], pointer: str, words: str
) -> None:
    answer = await client.patch(alice, json=change)
    assert answer.status_code == 422
    [problem] = answer.json()["errors"]
    assert problem["pointer"] == pointer
    assert words in problem["detail"]
    assert await own(client, alice) == {}


async def test_a_list_shows_who_is_live_and_what_was_recorded(
    client: httpx.AsyncClient, db: Database, opened: Opened, alice: str
) -> None:
    bob = (await client.post("/api/streamers", json={"login": "bob"})).json()
    alice_id = UUID(alice.rpartition("/")[2])
    since = datetime(2026, 1, 2, tzinfo=UTC)
    going_on = await opened("1", streamer_id=alice_id, size_bytes=7, started_at=since)
    async with db.begin() as session:
        await streamers.note_live(session, alice_id, "4711", since)
        await streamers.note_channel(
            session, alice_id, title="Hi", category="Chess", category_id="743"
        )
    shown = (await client.get("/api/streamers")).json()["items"]
    assert [item["login"] for item in shown] == ["bob", "alice"]
    assert shown[0] == bob
    assert (
        shown[1]
        | {
            "live": True,
            "live_since": "2026-01-02T00:00:00Z",
            "last_live_at": "2026-01-02T00:00:00Z",
            "title": "Hi",
            "category": "Chess",
            "category_id": "743",
            "recording_id": str(going_on),
            "recordings": 1,
            "size_bytes": 7,
        }
        == shown[1]
    )
    async with db.begin() as session:
        await streamers.note_not_live(session, alice_id)
    shown = (await client.get(alice)).json()
    assert (shown["live"], shown["last_live_at"]) == (False, "2026-01-02T00:00:00Z")


# ---- with Twitch


async def test_twitch_says_who_a_new_streamer_is(twitch: TwitchClient) -> None:
    channel = twitch.fake.channel(name="A Display Name")
    added = (await twitch.post("/api/streamers", {"login": channel.login.upper()})).json()
    assert (added["user_id"], added["name"]) == (channel.user_id, "A Display Name")
    assert added["login"] == channel.login
    assert twitch.helix_calls("users") == 1


async def test_a_login_that_twitch_does_not_know_is_refused(twitch: TwitchClient) -> None:
    for body in ({"login": "nobody_at_all"}, {"url": "https://www.twitch.tv/Nobody_At_All"}):
        answer = await twitch.post("/api/streamers", body)
        assert answer.status_code == 422
        assert "Twitch has no channel nobody_at_all" in answer.json()["detail"]
    assert (await twitch.http.get("/api/streamers")).json()["items"] == []


@pytest.mark.parametrize("kind", ["status", "html", "reset", "truncated"])
async def test_while_twitch_is_away_a_streamer_is_taken_unseen(
    twitch: TwitchClient, kind: str
) -> None:
    channel = twitch.fake.channel()
    client_id = twitch.application.client_id
    more = {"status": 503} if kind == "status" else {}
    twitch.fake.fault("helix.users", kind, client_id=client_id, **more)
    added = await twitch.post("/api/streamers", {"login": channel.login})
    assert added.status_code == 201
    assert (added.json()["user_id"], added.json()["login"]) == (None, channel.login)


async def test_a_wrong_client_secret_does_not_keep_anybody_from_adding(
    fake_twitch: FakeTwitch, make_settings: Callable[..., Settings]
) -> None:
    def wrong(**named: Any) -> Settings:
        return make_settings(**{**named, "twitch_client_secret": "not the one"})

    async with twitch_client(fake_twitch, wrong) as twitch:
        added = await twitch.post("/api/streamers", {"login": "somebody"})
        assert added.status_code == 201


async def test_adding_a_renamed_streamer_finds_the_one_we_have(twitch: TwitchClient) -> None:
    channel = twitch.fake.channel()
    first = (await twitch.post("/api/streamers", {"login": channel.login})).json()
    channel.rename(f"{channel.login}_new")
    again = await twitch.post("/api/streamers", {"login": channel.login})
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    assert again.json()["login"] == channel.login


async def test_adding_who_took_an_old_name_keeps_both(twitch: TwitchClient) -> None:
    former = twitch.fake.channel()
    login = former.login
    first = (await twitch.post("/api/streamers", {"login": login})).json()
    former.rename(f"{login}_gone")
    newer = twitch.fake.channel(login)
    second = await twitch.post("/api/streamers", {"login": login})
    assert second.status_code == 201
    assert second.json()["user_id"] == newer.user_id != first["user_id"]
    kept = (await twitch.http.get(f"/api/streamers/{first['id']}")).json()
    assert "has changed" in kept["problem"] and kept["user_id"] == first["user_id"]
