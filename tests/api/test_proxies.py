"""The routes of proxies: kept in order, sealed, never shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from api.app import create_app
from streamvault.db import proxies
from streamvault.db.session import Database
from streamvault.secrets import load_keyring
from streamvault.settings import Settings
from tests.api.conftest import client_of

PASSWORD = "open-sesame-4711"
# A documentation address (RFC 5737): nobody is there, and no name has to be resolved.
ADDRESS = f"http://alice:{PASSWORD}@203.0.113.7:3128"


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(allowed_networks="203.0.113.0/24")


async def add(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/api/proxies", json={"url": ADDRESS, **body})
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/api/proxies/{answer.json()['id']}"
    made: dict[str, Any] = answer.json()
    return made


async def names(client: httpx.AsyncClient) -> list[str]:
    return [item["name"] for item in (await client.get("/api/proxies")).json()["items"]]


async def test_an_address_goes_in_and_never_comes_out(
    client: httpx.AsyncClient, db: Database, settings: Settings
) -> None:
    made = await add(client)
    where = f"/api/proxies/{made['id']}"
    assert (made["shown"], made["has_password"]) == ("http://203.0.113.7:3128", True)
    assert (made["name"], made["ok"], made["checked_at"]) == ("203.0.113.7", None, None)
    changed = await client.patch(where, json={"name": "Home"})
    pages = [changed, await client.get(where), await client.get("/api/proxies")]
    assert [page.status_code for page in pages] == [200, 200, 200]
    assert not any(PASSWORD in page.text or "alice" in page.text for page in pages)
    async with db.begin() as session:
        (row,) = await proxies.list_proxies(session)
    assert PASSWORD not in row.sealed
    assert load_keyring(settings).open(f"proxies.{row.id}", row.sealed) == ADDRESS


async def test_they_are_tried_in_the_order_that_is_asked_for(client: httpx.AsyncClient) -> None:
    for name in ("one", "two", "three"):
        await add(client, name=name)
    await add(client, name="zero", position=0)
    assert await names(client) == ["zero", "one", "two", "three"]
    three = (await client.get("/api/proxies")).json()["items"][-1]
    await client.patch(f"/api/proxies/{three['id']}", json={"position": 1})
    assert await names(client) == ["zero", "three", "one", "two"]
    assert (await client.delete(f"/api/proxies/{three['id']}")).status_code == 204
    assert await names(client) == ["zero", "one", "two"]
    assert (await client.get(f"/api/proxies/{three['id']}")).status_code == 404
    assert (await client.delete(f"/api/proxies/{three['id']}")).status_code == 404


async def test_a_new_address_forgets_what_was_found_of_the_old_one(
    client: httpx.AsyncClient, db: Database
) -> None:
    where = f"/api/proxies/{(await add(client))['id']}"
    async with db.begin() as session:
        (row,) = await proxies.list_proxies(session)
        await proxies.note_check(session, row.id, ok=True, latency_ms=12, error="")
    seen = (await client.get(where)).json()
    assert (seen["ok"], seen["latency_ms"]) == (True, 12)
    same = (await client.patch(where, json={"enabled": False})).json()
    assert (same["ok"], same["enabled"]) == (True, False)
    new = await client.patch(where, json={"url": "socks5h://203.0.113.8:1080"})
    assert new.json() == {
        **same,
        **{"shown": "socks5h://203.0.113.8:1080", "has_password": False},
        **{"ok": None, "latency_ms": None, "checked_at": None},
    }


async def test_a_look_may_be_asked_for(client: httpx.AsyncClient, db: Database) -> None:
    where = f"/api/proxies/{(await add(client))['id']}"
    async with db.begin() as session:
        (row,) = await proxies.list_proxies(session)
        await proxies.note_check(session, row.id, ok=False, latency_ms=None, error="refused")
    asked = await client.post(f"{where}/check")
    assert (asked.status_code, asked.json()["checked_at"]) == (202, None)


async def test_a_proxy_may_be_for_one_streamer_and_goes_with_them(
    client: httpx.AsyncClient,
) -> None:
    alice = (await client.post("/api/streamers", json={"login": "alice"})).json()["id"]
    made = await add(client, streamer_id=alice)
    where = f"/api/proxies/{made['id']}"
    assert made["streamer_id"] == alice
    nobody = "0199a6a0-0000-7000-8000-000000000000"
    assert (await client.patch(where, json={"streamer_id": nobody})).status_code == 404
    assert (await client.patch(where, json={"streamer_id": None})).json()["streamer_id"] is None
    await client.patch(where, json={"streamer_id": alice})
    assert (await client.delete(f"/api/streamers/{alice}")).status_code < 300
    assert (await client.get(where)).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": ""},
        {"url": "203.0.113.7:3128"},
        {"url": "http://203.0.113.7"},
        {"url": "http://:3128"},
        {"url": "http://203.0.113.7:99999"},
        {"url": "ftp://203.0.113.7:21"},
        {"url": "socks4://203.0.113.7:1080"},
        {"url": "http://203.0.113.7:3128/path"},
        {"url": "http://203.0.113.7:3128?a=b"},
        {"url": f"http://alice:{PASSWORD} @203.0.113.7:3128"},
        {"url": "http://203.0.113.7:3128\r\nX: y"},
        {"url": "http://" + 1100 * "a" + ":3128"},
        {"url": ADDRESS, "position": -1},
        {"url": ADDRESS, "name": " "},
        {"url": ADDRESS, "streamer_id": "alice"},
        {"url": ADDRESS, "other": 1},
    ],
)
async def test_what_is_no_proxy_is_refused_by_name(
    client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    answer = await client.post("/api/proxies", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert PASSWORD not in answer.text
    assert await names(client) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "10.1.2.3", "localhost", "2130706433"])
async def test_a_proxy_inside_needs_the_administrators_leave(
    client: httpx.AsyncClient, host: str
) -> None:
    answer = await client.post("/api/proxies", json={"url": f"http://u:{PASSWORD}@{host}:3128"})
    assert answer.status_code == 422
    assert "ALLOWED_NETWORKS" in answer.text
    assert PASSWORD not in answer.text


async def test_that_of_the_environment_is_shown_first_and_cannot_be_changed(
    make_settings: Callable[..., Settings],
) -> None:
    application = create_app(make_settings(stream_proxy=ADDRESS))
    async with (
        application.router.lifespan_context(application),
        client_of(application) as client,
    ):
        page = (await client.get("/api/proxies")).json()
        (item,) = page["items"]
        assert (item["id"], item["origin"]) == ("env", "environment")
        assert (item["shown"], item["has_password"]) == ("http://203.0.113.7:3128", True)
        assert page["default_policy"] == "proxy-only"
        assert (await client.get("/api/proxies/env")).json() == item
        refused = [
            await client.patch("/api/proxies/env", json={"enabled": False}),
            await client.delete("/api/proxies/env"),
            await client.post("/api/proxies/env/check"),
        ]
    assert [answer.status_code for answer in refused] == [409, 409, 409]
    assert all("STREAM_PROXY" in answer.text for answer in refused)


async def test_a_streamer_has_a_policy_and_a_rule_of_quality(client: httpx.AsyncClient) -> None:
    where = (await client.post("/api/streamers", json={"login": "alice"})).headers["location"]
    wanted = {"proxy_policy": "proxy-only", "codecs": ["h265", "h264"]}
    for word in ("<=1080p60, best", "audio_only", "best"):
        answer = await client.patch(where, json={"quality": word})
        assert (answer.status_code, answer.json()["settings"]["quality"]["value"]) == (200, word)
    settings = (await client.patch(where, json=wanted)).json()["settings"]
    assert {name: settings[name]["own"] for name in wanted} == wanted
    for bad in (
        {"proxy_policy": "sometimes"},
        {"quality": "very good; rm -rf"},
        {"codecs": ["vp9"]},
        {"codecs": ["av1", "av1"]},
    ):
        answer = await client.patch(where, json=bad)
        assert (answer.status_code, next(iter(bad)) in answer.text) == (422, True), bad
