from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.pasted import read_list
from streamvault.settings import Settings
from tests.api.twitch_client import TwitchClient, twitch_client
from tests.fake_twitch.client import FakeTwitch

RESOLVE, IMPORT = "/api/streamers/resolve", "/api/streamers/import"
FOLLOWS = "/api/twitch/follows"
_numbers = count(1)


@pytest.fixture
async def twitch(
    fake_twitch: FakeTwitch, make_settings: Callable[..., Settings]
) -> AsyncIterator[TwitchClient]:
    async with twitch_client(fake_twitch, make_settings) as made:
        yield made


async def lines(client: httpx.AsyncClient, text: str) -> list[dict[str, Any]]:
    answer = await client.post(RESOLVE, json={"text": text})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def new_names(fake: FakeTwitch, how_many: int) -> list[str]:
    """Logins of that many channels that nobody else uses."""
    return [c.login for c in fake.channels(how_many, f"paste{next(_numbers)}_")]


# ---- reading a list


@pytest.mark.parametrize(
    "text",
    [
        "alice bob carol",
        "alice, bob,carol",
        "alice;bob\n\n\tcarol\n",
        "@alice @Bob @CAROL",
        "- alice\n- bob\n- carol",
        "* alice\n• bob\n•carol",
        "1. alice\n2. bob\n10) carol",
        "1. alice 2. bob 3. carol",
        "https://www.twitch.tv/alice\nhttps://twitch.tv/Bob/\nhttp://m.twitch.tv/carol?x=1#y",
        "twitch.tv/alice www.twitch.tv/bob/videos TWITCH.TV/carol/about",
        '"alice", <bob>, (carol)',
        "\ufeffalice\r\nbob\r\ncarol\r\n",
    ],
)
def test_a_list_is_read_as_people_paste_it(text: str) -> None:
    assert [entry.login for entry in read_list(text)] == ["alice", "bob", "carol"]


@pytest.mark.parametrize(
    "piece",
    [
        *("-rf", "--alice", "a" * 26, "ä", "alicé", "а", "a.b", "a/b", "..", "C:\\x", "@", "@@a"),
        *("a\u202eb", "\x00", "a\u200db", "%61lice", "#alice", "alice@example.org"),
        *("https://www.twitch.tv/", "https://www.twitch.tv/directory", "twitch.tv/videos/123"),
        *("https://www.twitch.tv/-rf", "https://www.twitch.tv/alice/../bob"),
        *("https://x:y@www.twitch.tv/alice", "https://www.twitch.tv@alice", "https://[::1"),
    ],
)
def test_what_is_neither_login_nor_address_says_so(piece: str) -> None:
    [entry] = read_list(piece)
    assert entry.login == ""
    assert entry.problem or entry.url == "https://www.twitch.tv@alice"


@given(st.text())
def test_any_text_is_read_to_the_end(text: str) -> None:
    for entry in read_list(text):
        assert [bool(entry.login), bool(entry.url), bool(entry.problem)].count(True) == 1
        assert len(entry.input) <= 200


# ---- the preview


async def test_each_entry_of_a_pasted_list_is_answered_in_order(twitch: TwitchClient) -> None:
    known, fresh = new_names(twitch.fake, 2)
    added = (await twitch.post("/api/streamers", {"login": known})).json()
    text = f"1. @{known}\n2. {fresh.upper()}\n3. nobody_here_{fresh[:9]}, -rf {fresh}"
    text += "\n- https://8.8.8.8/live.m3u8\n- http://127.0.0.1/x\n- https://a:b@8.8.8.8/x"
    found = await lines(twitch.http, text)
    assert [line["status"] for line in found] == [
        *("followed", "new", "unknown", "invalid", "duplicate"),
        *("new", "invalid", "invalid"),
    ]
    assert found[0] | {"streamer_id": added["id"], "login": known} == found[0]
    assert found[1]["url"] == f"https://www.twitch.tv/{fresh}"
    assert found[1]["avatar"].startswith("https://static-cdn.jtvnw.net/")
    assert found[1]["user_id"] and found[1]["streamer_id"] is None
    assert "is it spelt right?" in found[2]["problem"]
    assert "neither a login" in found[3]["problem"] and found[3]["input"] == "-rf"
    assert (found[5]["login"], found[5]["url"]) == (None, "https://8.8.8.8/live.m3u8")
    assert "not on the public internet" in found[6]["problem"]
    assert "user name or password" in found[7]["problem"]
    assert len((await twitch.http.get("/api/streamers")).json()["items"]) == 1


async def test_five_hundred_lines_cost_five_calls(twitch: TwitchClient) -> None:
    logins = new_names(twitch.fake, 500)
    found = await lines(twitch.http, "\n".join(logins))
    assert [line["login"] for line in found] == logins
    assert {line["status"] for line in found} == {"new"}
    assert twitch.helix_calls("users") == 5


async def test_more_than_five_hundred_lines_are_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post(RESOLVE, json={"text": "x " * 501})
    assert answer.status_code == 422
    assert "501 entries, and at most 500" in answer.json()["detail"]
    assert (await client.post(RESOLVE, json={"text": "x" * 100_001})).status_code == 422


async def test_an_empty_list_is_an_empty_answer(client: httpx.AsyncClient) -> None:
    assert await lines(client, " \n,;- ") == []


async def test_without_twitch_a_list_is_only_not_checked(client: httpx.AsyncClient) -> None:
    await client.post("/api/streamers", json={"login": "alice"})
    found = await lines(client, "alice bob")
    assert [line["status"] for line in found] == ["followed", "new"]
    assert "not checked: no Twitch application is set up" in found[1]["problem"]


async def test_a_renamed_streamer_is_known_by_the_account(twitch: TwitchClient) -> None:
    channel = twitch.fake.channel()
    old = channel.login
    added = (await twitch.post("/api/streamers", {"login": old})).json()
    channel.rename(f"{old}_b")
    [line] = await lines(twitch.http, channel.login)
    assert (line["status"], line["streamer_id"]) == ("followed", added["id"])
    # Somebody else with the old name is not the one we follow.
    twitch.fake.channel(old)
    [line] = await lines(twitch.http, old)
    assert (line["status"], line["streamer_id"]) == ("new", None)


# ---- importing


async def test_every_line_of_an_import_is_answered(twitch: TwitchClient) -> None:
    one, two, three = new_names(twitch.fake, 3)
    user_id = (await lines(twitch.http, three))[0]["user_id"]
    body = {
        "entries": [
            one,
            f"@{two}",
            f"https://twitch.tv/{one}",
            "-rf",
            "not_there_1",
            "http://[::1]/",
        ],
        "user_ids": [user_id, "1"],
    }
    found = (await twitch.post(IMPORT, body)).json()["items"]
    assert [line["status"] for line in found] == [
        *("added", "added", "already", "refused", "refused", "refused"),
        *("added", "refused"),
    ]
    assert [line["login"] for line in found if line["login"]] == [one, two, one, three]
    assert found[0]["streamer_id"] == found[2]["streamer_id"]
    assert "no account with this id" in found[7]["problem"]
    followed = (await twitch.http.get("/api/streamers")).json()["items"]
    assert {s["login"] for s in followed} == {one, two, three}
    assert all(s["user_id"] for s in followed)

    again = (await twitch.post(IMPORT, body)).json()["items"]
    assert [line["status"] for line in again] == [
        *("already", "already", "already", "refused", "refused", "refused"),
        *("already", "refused"),
    ]
    assert [line["streamer_id"] for line in again] == [line["streamer_id"] for line in found]


async def test_five_hundred_are_imported_at_once(twitch: TwitchClient) -> None:
    logins = new_names(twitch.fake, 500)
    found = (await twitch.post(IMPORT, {"entries": logins})).json()["items"]
    assert [line["status"] for line in found] == ["added"] * 500
    assert twitch.helix_calls("users") == 5


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"entries": [], "user_ids": []},
        {"entries": ["x"] * 300, "user_ids": ["1"] * 201},
        {"user_ids": ["1 OR 1=1"]},
        {"user_ids": ["٣"]},
        {"entries": [""]},
        {"ids": ["1"]},
    ],
)
async def test_an_import_that_makes_no_sense_is_refused(
    front: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    assert (await front.post(IMPORT, json=body)).status_code == 422


async def test_while_twitch_is_away_logins_are_taken_and_ids_are_not(twitch: TwitchClient) -> None:
    [login] = new_names(twitch.fake, 1)
    twitch.fake.fault(
        "helix.users", "status", status=500, client_id=twitch.application.client_id, count=2
    )
    found = (await twitch.post(IMPORT, {"entries": [login], "user_ids": ["42"]})).json()["items"]
    assert [line["status"] for line in found] == ["added", "refused"]
    assert found[0]["problem"].startswith("not checked: ")
    assert "500" in found[1]["problem"]


# ---- the account's follows


async def test_follows_are_shown_page_by_page_with_what_we_have(twitch: TwitchClient) -> None:
    channels = twitch.fake.channels(5, f"followed{next(_numbers)}_")
    viewer = twitch.fake.channel()
    twitch.fake.follow(viewer.login, channels)
    await twitch.connect(viewer.login)
    added = (await twitch.post(IMPORT, {"entries": [channels[2].login]})).json()["items"][0]

    seen: list[dict[str, Any]] = []
    cursor = ""
    for expected in (2, 2, 1):
        path = f"{FOLLOWS}?limit=2{cursor and f'&cursor={cursor}'}"
        page = (await twitch.http.get(path)).json()
        assert len(page["items"]) == expected
        seen += page["items"]
        cursor = page["next_cursor"]
    assert cursor is None
    assert {one["login"] for one in seen} == {channel.login for channel in channels}
    assert len(seen) == 5
    here = {one["login"]: one["streamer_id"] for one in seen if one["followed_here"]}
    assert here == {channels[2].login: added["streamer_id"]}

    user_ids = [one["user_id"] for one in seen]
    found = (await twitch.post(IMPORT, {"user_ids": user_ids})).json()["items"]
    assert sorted(line["status"] for line in found) == ["added"] * 4 + ["already"]


async def test_follows_need_an_account(twitch: TwitchClient, client: httpx.AsyncClient) -> None:
    for who, words in (
        (twitch.http, "no Twitch account is connected"),
        (client, "no Twitch application is set up"),
    ):
        answer = await who.get(FOLLOWS)
        assert answer.status_code == 409
        assert words in answer.json()["detail"]


@pytest.mark.parametrize("cursor", ["x", "ÄÖ", "AAAA", "MXwy%00"])
async def test_a_cursor_that_is_not_ours_is_refused(twitch: TwitchClient, cursor: str) -> None:
    answer = await twitch.http.get(FOLLOWS, params={"cursor": cursor})
    assert answer.status_code == 422
