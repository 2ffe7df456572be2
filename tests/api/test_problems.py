from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from api.problems import STATUS_OF, status_of
from streamvault import errors


def tree(kind: type[errors.StreamVaultError]) -> list[type[errors.StreamVaultError]]:
    return [kind, *(deep for child in kind.__subclasses__() for deep in tree(child))]


@pytest.mark.parametrize("kind", tree(errors.StreamVaultError))
def test_every_error_has_a_status(kind: type[errors.StreamVaultError]) -> None:
    assert 400 <= status_of(kind("what happened")) < 600


def test_the_nearest_ancestor_decides() -> None:
    assert status_of(errors.StreamOffline("")) == 409
    assert status_of(errors.PlaylistError("")) == STATUS_OF[errors.SourceError] == 502


async def test_a_problem_says_what_and_carries_its_trace(client: httpx.AsyncClient) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = await client.get(
        "/api/recordings/no-such-id",
        headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"},
    )
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Not found",
        "status": 404,
        "detail": "there is no recording 'no-such-id'",
        "trace_id": trace_id,
    }
    assert answer.headers["x-trace-id"] == trace_id


async def test_each_request_without_a_trace_gets_one(front: httpx.AsyncClient) -> None:
    traces = {(await front.get("/nowhere")).json()["trace_id"] for _ in range(3)}
    assert len(traces) == 3


@pytest.mark.parametrize(("method", "status"), [("GET", 404), ("POST", 404), ("DELETE", 404)])
async def test_an_unknown_route_is_a_problem(
    front: httpx.AsyncClient, method: str, status: int
) -> None:
    answer = await front.request(method, "/api/nothing")
    assert (answer.status_code, answer.json()["title"]) == (status, "Not Found")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/"),
        ({"url": "https://a.example", "streamer_id": "0" * 32}, "/"),
        ({"streamer_id": "nobody"}, "/streamer_id"),
        ({"url": 7}, "/url"),
        ({"url": "https://a.example", "quality": "--player"}, "/quality"),
        ({"url": "https://a.example", "surprise": 1}, "/surprise"),
    ],
)
async def test_a_wrong_body_names_the_place(
    front: httpx.AsyncClient, body: dict[str, object], pointer: str
) -> None:
    answer = await front.post("/api/recordings", json=body)
    assert answer.status_code == 422
    assert pointer in [entry["pointer"] for entry in answer.json()["errors"]]


async def test_broken_json_is_a_problem(front: httpx.AsyncClient) -> None:
    answer = await front.post(
        "/api/recordings", content=b"{", headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["status"]) == (422, 422)


async def test_an_unexpected_error_tells_nothing_of_the_inside(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("password=hunter2")

    answer = await client.get("/broken")
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert answer.json()["trace_id"]
    assert "default-src 'self'" in answer.headers["content-security-policy"]


async def test_secrets_in_an_error_are_hidden(app: FastAPI, client: httpx.AsyncClient) -> None:
    @app.get("/signed")
    async def signed() -> None:
        raise errors.SourceUnavailable("https://user:geheim@cdn.example/x.m3u8?token=s3cret failed")

    text = (await client.get("/signed")).text
    assert "s3cret" not in text and "geheim" not in text


async def test_a_database_that_is_away_is_a_503(front: httpx.AsyncClient) -> None:
    answer = await front.get("/api/recordings")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "cannot be reached" in answer.json()["detail"]
    assert (await front.get("/readyz")).status_code == 503
    assert (await front.get("/healthz")).status_code == 200
    assert "streamvault_database_up 0.0" in (await front.get("/metrics")).text
