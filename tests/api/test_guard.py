"""What a browser may do to a server on loopback (decision: Host and Origin from the start)."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from api.app import create_app
from streamvault.settings import check_settings

from .conftest import client_of

# Each of these would be refused as a page's; without such headers it fails only for its content.
REACHED = 422


async def post(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    return await client.post("/api/recordings", json={}, headers=headers)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8080", "localhost:1", "LOCALHOST", "[::1]", "[::1]:8080"],
)
async def test_loopback_names_are_ours(front: httpx.AsyncClient, host: str) -> None:
    assert (await front.get("/healthz", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1@evil.example",
        "127.0.0.1:8080:8080",
        "127.0.0.1/",
        "::1",
        "",
        "0.0.0.0",
        "2130706433",
    ],
)
async def test_a_foreign_host_is_refused(front: httpx.AsyncClient, host: str) -> None:
    for path in ("/", "/healthz", "/api/recordings", "/nowhere"):
        answer = await front.get(path, headers={"Host": host})
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"


async def test_two_host_headers_are_refused(front: httpx.AsyncClient) -> None:
    headers = [("Host", "127.0.0.1:8080"), ("Host", "evil.example")]
    assert (await front.get("/healthz", headers=headers)).status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, REACHED),
        ({"Origin": "http://127.0.0.1:8080"}, REACHED),
        ({"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"}, REACHED),
        ({"Sec-Fetch-Site": "none"}, REACHED),
        ({"Origin": "http://127.0.0.1:9090"}, 403),
        ({"Origin": "http://localhost:8080"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:8080.evil.example"}, 403),
        ({"Origin": "http://evil.example/127.0.0.1:8080"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_only_our_own_pages_may_change_something(
    front: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    assert (await post(front, **headers)).status_code == status


async def test_every_unsafe_route_refuses_a_foreign_page(
    front: httpx.AsyncClient,
) -> None:
    paths = (await front.get("/openapi.json")).json()["paths"]
    unsafe = [
        (method.upper(), path)
        for path, operations in paths.items()
        for method in operations
        if method not in {"get", "head", "options"}
    ]
    assert len(unsafe) >= 10
    for method, path in unsafe:
        answer = await front.request(method, path, headers={"Origin": "https://evil.example"})
        assert answer.status_code == 403, (method, path)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
async def test_a_body_that_a_form_could_send_is_refused(
    front: httpx.AsyncClient, content_type: str
) -> None:
    answer = await front.post(
        "/api/recordings", content=b'{"url": "https://a"}', headers={"Content-Type": content_type}
    )
    assert answer.status_code == 415


async def test_reading_from_a_foreign_page_gets_no_permission(front: httpx.AsyncClient) -> None:
    answer = await front.get("/api/recordings", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


async def test_base_url_and_allowed_names_are_ours(tmp_path: Path) -> None:
    app = create_app(
        check_settings(
            {
                "data_dir": tmp_path,
                "database_url": "postgresql+asyncpg://away.invalid/sv",
                "base_url": "https://vault.example",
                "allowed_hosts": "vault.lan",
                "allowed_origins": "https://panel.example",
            }
        )
    )
    async with client_of(app, "https://vault.example") as client:
        plain = await client.get("/healthz")
        assert plain.status_code == 200
        assert "max-age" in plain.headers["strict-transport-security"]
        assert (await client.get("/healthz", headers={"Host": "vault.lan:80"})).status_code == 200
        assert (await post(client, Origin="https://vault.example")).status_code == REACHED
        behind = {"Host": "127.0.0.1:8080", "Origin": "https://vault.example"}
        assert (await post(client, **behind)).status_code == REACHED
        panel = {"Origin": "https://panel.example", "Sec-Fetch-Site": "cross-site"}
        allowed = await post(client, **panel)
        assert allowed.status_code == REACHED
        assert allowed.headers["access-control-allow-origin"] == "https://panel.example"
        for stranger in ("https://panel.example.evil", "https://panel.exampl", "null"):
            assert (await post(client, Origin=stranger)).status_code == 403


@pytest.mark.parametrize("path", ["/", "/healthz", "/nowhere", "/api/recordings", "/metrics"])
async def test_every_answer_carries_the_security_headers(
    front: httpx.AsyncClient, path: str
) -> None:
    headers = (await front.get(path)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "*" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "strict-transport-security" not in headers


async def test_get_does_not_reach_what_changes_something(front: httpx.AsyncClient) -> None:
    for path in ("stop", "restart", "process"):
        answer = await front.get(f"/api/recordings/0/{path}")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"
