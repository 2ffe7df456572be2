from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from streamvault.settings import Settings
from tests.browser import Browser, plain

# A documentation address (RFC 5737): no name has to be resolved.
ENDPOINT = "https://203.0.113.9/push/very-secret"


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(allowed_networks="203.0.113.0/24")


async def test_the_key_is_the_same_for_all_and_a_point_on_the_curve(
    client: httpx.AsyncClient,
) -> None:
    keys = {(await client.get("/api/push/public-key")).json()["public_key"] for _ in range(2)}
    (key,) = keys
    ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), plain(key))


async def test_a_browser_subscribes_and_leaves(client: httpx.AsyncClient) -> None:
    browser = Browser(ENDPOINT)
    made = await client.post("/api/push/subscriptions", json=browser.json)
    assert made.status_code == 201
    assert made.headers["location"] == f"/api/push/subscriptions/{made.json()['id']}"
    assert made.json()["service"] == "203.0.113.9"
    again = await client.post("/api/push/subscriptions", json=browser.json)
    assert again.json() == made.json()
    listed = await client.get("/api/push/subscriptions")
    assert listed.json() == {"items": [made.json()]}
    for answer in (made, listed):
        assert "very-secret" not in answer.text
    gone = await client.delete(made.headers["location"])
    assert gone.status_code == 204
    assert (await client.delete(made.headers["location"])).status_code == 404
    assert (await client.get("/api/push/subscriptions")).json() == {"items": []}


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "http://203.0.113.9/push/very-secret"},
        {"endpoint": "https://127.0.0.1/push/very-secret"},
        {"endpoint": "https://[::1]/push/very-secret"},
        {"endpoint": "https:///push/very-secret"},
        {"endpoint": "https://[/very-secret"},
        {"endpoint": "https://203.0.113.9:99999/very-secret"},
        {"endpoint": ""},
        {"keys": {"p256dh": "very-secret", "auth": "x"}},
        {"keys": {}},
    ],
)
async def test_what_is_no_subscription_is_told_and_not_repeated(
    client: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    body = {**Browser("https://203.0.113.9/very-secret").json, **change}
    answer = await client.post("/api/push/subscriptions", json=body)
    assert answer.status_code == 422
    assert "very-secret" not in answer.text
