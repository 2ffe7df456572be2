from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest

from streamvault.contracts import STEPS, Status
from streamvault.db import captured, recordings, steps, streams
from streamvault.db.captured import AdRow, GapRow, PartRow
from streamvault.db.session import Database

from .conftest import Opened

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
IN_LISTS = [
    "reason",  # beyond the contract's keys: why it failed or waits
    "continues",  # and which recording it goes on from
    "id", "streamer", "stream_id", "title", "category", "status", "step", "quality", "codec",
    "started_at", "ended_at", "duration_s", "size_bytes", "bitrate_bps", "workflow_id", "path",
    "playable", "chapters", "totals",
    "damaged",  # and what of its row cannot be read
    "locked", "watched", "position_s", "deleted_at", "deleted_why", "purge_at",
]  # fmt: skip
ONLY_ALONE = ["steps", "parts", "gaps", "ads"]
TOTALS = {
    "segments_expected": 10, "segments_stored": 8, "segments_late": 1, "segments_lost": 1,
    "segments_ad": 1, "segments_repaired": 0, "gap_s": 2.0, "ad_s": 2.0, "restarts": 1,
}  # fmt: skip


async def a_full_recording(db: Database, recording_id: UUID) -> None:
    async with db.begin() as session:
        seen = recordings.Detection(
            "Alice", "twitch", "alice", platform_stream_id="4711", title="First", category="Chess"
        )
        await recordings.note_detected(session, recording_id, seen)
        progress = captured.Progress(1500, 15.0, 800, "1080p60", "avc1.64002A", TOTALS)
        await captured.save_progress(session, recording_id, progress)
        await captured.replace_parts_and_gaps(
            session,
            recording_id,
            [PartRow(1, "part-0001.ts", 1000, 10.0), PartRow(2, "part-0002.ts", 500, 5.0)],
            [GapRow(10.0, 2.0, "network", NOON)],
            [AdRow(3.0, 2.0, "midroll")],
            TOTALS,
        )
        await steps.set_step(session, recording_id, "detect", "done", attempt=1)
        await steps.set_step(
            session, recording_id, "record", "retrying", attempt=2, error="away",
            progress=steps.Progress(0.5), next_retry_at=NOON,
        )  # fmt: skip


async def test_one_recording_is_the_contracts_object(
    client: httpx.AsyncClient, db: Database, opened: Opened
) -> None:
    recording_id = await opened(started_at=NOON)
    await a_full_recording(db, recording_id)
    async with db.begin() as session:
        for minutes, title in ((-1, "First"), (2, "Second")):
            at = NOON + timedelta(minutes=minutes)
            await streams.add_channel_event(session, recording_id, at, title, "Chess")

    answer = (await client.get(f"/api/recordings/{recording_id}")).json()

    assert set(answer) == {*IN_LISTS, *ONLY_ALONE}
    found = answer.pop("steps")
    assert [step["name"] for step in found] == list(STEPS)
    assert found[0]["state"] == "done" and found[0]["error"] is None
    assert {name: found[1][name] for name in ("state", "attempt", "progress", "error")} == {
        "state": "retrying", "attempt": 2, "progress": 0.5, "error": "away",
    }  # fmt: skip
    assert found[1]["next_retry_at"] == "2026-11-25T12:00:00Z"
    assert set(found[2]) == {
        "name", "state", "attempt", "progress", "speed", "eta_s",
        "started_at", "ended_at", "next_retry_at", "error",
    }  # fmt: skip
    assert answer == {
        "id": str(recording_id),
        "streamer": {"id": None, "login": "alice", "name": "Alice"},
        "stream_id": "4711",
        "continues": None,
        "title": "First",
        "category": "Chess",
        "status": "recording",
        "step": "record",
        "reason": "",
        "quality": "1080p60",
        "codec": "avc1.64002A",
        "started_at": "2026-11-25T12:00:00Z",
        "ended_at": None,
        "duration_s": 15.0,
        "size_bytes": 1500,
        "bitrate_bps": 800,
        "workflow_id": f"stream-url-{recording_id}",
        "path": None,
        "locked": False,
        "watched": False,
        "position_s": 0.0,
        "deleted_at": None,
        "deleted_why": "",
        "purge_at": None,
        "playable": {"hls": False, "media": False},  # nothing says yet where its folder is
        "chapters": [
            {"start_s": 0.0, "title": "First", "category": "Chess"},
            {"start_s": 120.0, "title": "Second", "category": "Chess"},
        ],
        "parts": [
            {"number": 1, "size_bytes": 1000, "duration_s": 10.0},
            {"number": 2, "size_bytes": 500, "duration_s": 5.0},
        ],
        "gaps": [
            {"start_s": 10.0, "duration_s": 2.0, "cause": "network", "at": "2026-11-25T12:00:00Z"}
        ],
        "ads": [{"start_s": 3.0, "duration_s": 2.0, "kind": "midroll"}],
        "totals": TOTALS,
        "damaged": [],
    }


async def test_playable_follows_the_files(
    client: httpx.AsyncClient, db: Database, opened: Opened
) -> None:
    recording_id = await opened(directory="d", size_bytes=10)

    async def playable() -> dict[str, bool]:
        answer = await client.get(f"/api/recordings/{recording_id}")
        found: dict[str, bool] = answer.json()["playable"]
        return found

    assert await playable() == {"hls": True, "media": False}
    async with db.begin() as session:
        final = captured.FinalFile("A/A.mp4", 20, 1.0)
        await captured.save_final_file(session, recording_id, final)
    assert await playable() == {"hls": True, "media": True}
    async with db.begin() as session:
        await captured.mark_parts_gone(session, recording_id)
    assert await playable() == {"hls": False, "media": True}


async def test_lists_hold_the_same_object_without_details(
    client: httpx.AsyncClient, db: Database, opened: Opened
) -> None:
    recording_id = await opened()
    await a_full_recording(db, recording_id)
    listed = (await client.get("/api/recordings")).json()
    alone = (await client.get(f"/api/recordings/{recording_id}")).json()
    assert listed["next_cursor"] is None
    assert set(listed["items"][0]) == set(IN_LISTS)
    assert listed["items"][0] == {name: alone[name] for name in IN_LISTS}


async def test_lists_are_paged_and_filtered(
    client: httpx.AsyncClient, db: Database, opened: Opened
) -> None:
    ids = [str(await opened(f"k{n}", title=f"Night {n}")) for n in range(5)]
    async with db.begin() as session:
        await recordings.set_status(session, ids[1], Status.COMPLETED)
        await recordings.set_status(session, ids[3], Status.FAILED)

    seen: list[str] = []
    params: dict[str, object] = {"limit": 2}
    while True:
        page = (await client.get("/api/recordings", params=params)).json()
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == ids[::-1]

    async def found(query: str) -> list[str]:
        answer = await client.get(f"/api/recordings?{query}")
        return [item["id"] for item in answer.json()["items"]]

    assert await found("status=completed") == [ids[1]]
    assert await found("status=completed&status=failed") == [ids[3], ids[1]]
    assert await found("q=night+4") == [ids[4]]
    assert (await client.get("/api/recordings?cursor=nonsense")).status_code == 422


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=201", "limit=x", "status=unknown", "streamer_id=7"],
)
async def test_a_wrong_query_is_a_422(front: httpx.AsyncClient, query: str) -> None:
    answer = await front.get(f"/api/recordings?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_report_is_the_stored_one_or_what_is_known(
    client: httpx.AsyncClient, db: Database, opened: Opened
) -> None:
    recording_id = await opened()
    await a_full_recording(db, recording_id)
    so_far = (await client.get(f"/api/recordings/{recording_id}/report")).json()
    assert so_far["final"] is False
    assert so_far["totals"] == TOTALS and len(so_far["gaps"]) == 1

    stored = {"totals": TOTALS, "checks": [{"name": "packets", "ok": True}]}
    async with db.begin() as session:
        await captured.save_report(session, recording_id, stored)
    told = (await client.get(f"/api/recordings/{recording_id}/report")).json()
    assert told == {**stored, "verified": None}


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x.m3u8",
        "file:///etc/passwd",
        "hls://file:///etc/passwd",
        "--config=/etc/passwd",
        "/etc/passwd",
        "http://169.254.169.254/latest/meta-data",
    ],
)
@pytest.mark.parametrize("route", ["/api/recordings", "/api/streamers"])
async def test_addresses_inside_are_refused_at_both_doors(
    front: httpx.AsyncClient, url: str, route: str
) -> None:
    answer = await front.post(route, json={"url": url})
    assert answer.status_code == 422
    assert answer.json()["title"] == "The request is not valid"


async def test_processing_again_needs_what_it_works_on(
    client: httpx.AsyncClient, db: Database, opened: Opened
) -> None:
    recording_id = await opened()
    where = f"/api/recordings/{recording_id}/process"
    running = await client.post(where, json={"steps": ["thumbnails"]})
    assert (running.status_code, running.json()["hint"]) == (409, "stop it first")

    async with db.begin() as session:
        await recordings.set_status(session, recording_id, Status.COMPLETED)
        await captured.mark_parts_gone(session, recording_id)
    without_parts = await client.post(where, json={"steps": ["remux"]})
    assert without_parts.status_code == 409
    assert "parts" in without_parts.json()["detail"]

    for wrong in (["detect"], ["record"], ["transcode"], "remux", [7]):
        assert (await client.post(where, json={"steps": wrong})).status_code == 422
    # No Temporal is configured here: the request itself was right.
    assert (await client.post(where, json={})).status_code == 503
