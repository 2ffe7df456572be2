"""Lists, marks, deleting and having back, many at once, and what is set for the library."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from sqlalchemy import select, text
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.adopting import Adopting
from activities.jobs import Jobs
from activities.moving import Moving
from activities.retention import Retention
from api.app import create_app
from streamvault.contracts import CONTROL_QUEUE, media_queue
from streamvault.db import library, recordings, streamers, watch
from streamvault.db.library import Wanted
from streamvault.db.models import Recording
from streamvault.db.session import Database
from streamvault.db.streamers import NewStreamer
from streamvault.settings import Settings
from workflows.library_work import AdoptLibrary, RunJob, SweepLibrary

from .conftest import Opened

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
PATIENCE_S = 30
DONE = {"status": "completed", "holds_source": False, "streamer_name": "Alice", "size_bytes": 1}


async def found(client: httpx.AsyncClient, query: str = "") -> list[str]:
    answer = await client.get(f"/api/recordings?{query}")
    assert answer.status_code == 200, answer.text
    return [item["title"] for item in answer.json()["items"]]


@pytest.fixture
async def shelf(opened: Opened) -> dict[str, str]:
    """Ids by title; the last is the newest."""
    rows: dict[str, dict[str, Any]] = {
        "Morning chess": {"category": "Chess", "size_bytes": 30, "duration_s": 1.0},
        "Painting 100%": {"category": "Art", "size_bytes": 10, "duration_s": 3.0},
        "Evening chess": {"category": "Chess", "size_bytes": 20, "duration_s": 2.5},
    }
    ids = {}
    for number, (title, more) in enumerate(rows.items()):
        at = NOON + timedelta(days=number)
        ids[title] = str(await opened(title, **{**DONE, **more, "title": title, "started_at": at}))
    return ids


@pytest.mark.parametrize(
    ("query", "titles"),
    [
        ("", ["Evening chess", "Painting 100%", "Morning chess"]),
        ("sort=oldest", ["Morning chess", "Painting 100%", "Evening chess"]),
        ("sort=largest", ["Morning chess", "Evening chess", "Painting 100%"]),
        ("sort=longest", ["Painting 100%", "Evening chess", "Morning chess"]),
        ("category=Chess", ["Evening chess", "Morning chess"]),
        ("category=chess", []),
        ("q=ESS+even", ["Evening chess"]),
        ("q=alice+paint", ["Painting 100%"]),
        ("q=100%25", ["Painting 100%"]),
        ("q=_", []),
        ("since=2026-11-26T00:00:00Z&until=2026-11-27T00:00:00Z", ["Painting 100%"]),
        ("locked=true", []),
        ("watched=false", ["Evening chess", "Painting 100%", "Morning chess"]),
        ("deleted=true", []),
    ],
)
async def test_a_list_is_narrowed_down_and_sorted(
    client: httpx.AsyncClient, shelf: dict[str, str], query: str, titles: list[str]
) -> None:
    assert await found(client, query) == titles


@pytest.mark.parametrize("sort", ["newest", "oldest", "longest", "largest"])
async def test_every_order_is_paged_without_loss_or_doubling(
    client: httpx.AsyncClient, opened: Opened, sort: str
) -> None:
    """Many of the same size, since that is where paging by a value goes wrong."""
    for number in range(11):
        size = number % 3
        await opened(f"k{number}", **{**DONE, "size_bytes": size, "duration_s": size / 3,
                                      "title": f"t{number}"})  # fmt: skip
    params = {"sort": sort, "limit": "2"}
    seen: list[dict[str, Any]] = []
    while True:
        page = (await client.get("/api/recordings", params=params)).json()
        seen += page["items"]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert sorted(item["title"] for item in seen) == sorted(f"t{n}" for n in range(11))
    column = {"longest": "duration_s", "largest": "size_bytes"}.get(sort)
    keys = [(item[column] if column else 0, item["id"]) for item in seen]
    assert keys == sorted(keys, reverse=sort != "oldest")


@pytest.mark.parametrize("query", ["sort=best", "since=yesterday", "since=2026-11-26T00:00:00",
                                   "watched=perhaps", "cursor=AAAA&sort=largest"])  # fmt: skip
async def test_a_query_that_cannot_be_is_a_422(client: httpx.AsyncClient, query: str) -> None:
    assert (await client.get(f"/api/recordings?{query}")).status_code == 422


async def test_facets_count_what_a_list_would_show(
    client: httpx.AsyncClient, shelf: dict[str, str]
) -> None:
    told = (await client.get("/api/recordings/facets?q=chess")).json()
    assert told["total"] == {"key": "", "name": "", "recordings": 2, "size_bytes": 50}
    assert told["categories"] == [
        {"key": "Chess", "name": "Chess", "recordings": 2, "size_bytes": 50}
    ]
    assert told["streamers"] == [{"key": "", "name": "Alice", "recordings": 2, "size_bytes": 50}]
    everything = (await client.get("/api/recordings/facets")).json()
    assert [one["name"] for one in everything["categories"]] == ["Chess", "Art"]


async def test_words_are_looked_up_in_an_index(db: Database) -> None:
    """A large library is not read row by row."""
    async with db.begin() as session:
        await session.execute(
            text(
                "INSERT INTO recordings (id, source_key, source_url, holds_source, platform,"
                " workflow_id, started_by, quality, title, category, status, step, reason,"
                " duration_s, size_bytes, bitrate_bps, streamer_name) SELECT gen_random_uuid(),"
                " 'k' || n, '', false, '', '', '', '', md5(n::text), '', 'completed', 'notify',"
                " '', 0, 0, 0, 'Alice' FROM generate_series(1, 20000) n"
            )
        )
        # What autovacuum does within minutes.
        await session.execute(text("SELECT gin_clean_pending_list('idx_recordings_words')"))
        await session.execute(text("ANALYZE recordings"))
        query = select(Recording.id).where(*Wanted(q="c4ca42").conditions)
        asked = query.compile(session.bind, compile_kwargs={"literal_binds": True})
        plan = await session.scalars(text(f"EXPLAIN {asked}".replace("%%", "%")))
        assert "idx_recordings_words" in "\n".join(plan)


async def test_it_is_locked_watched_and_left_off_somewhere(
    client: httpx.AsyncClient, db: Database, shelf: dict[str, str]
) -> None:
    where = f"/api/recordings/{shelf['Painting 100%']}"
    told = (await client.patch(where, json={"locked": True})).json()
    assert (told["locked"], told["watched"]) == (True, False)
    told = (await client.patch(where, json={"watched": True})).json()
    assert (told["locked"], told["watched"]) == (True, True)
    assert (await client.put(f"{where}/position", json={"s": 12.5})).status_code == 204
    assert (await client.get(where)).json()["position_s"] == 12.5
    assert await found(client, "locked=true&watched=true") == ["Painting 100%"]
    async with db.begin() as session:
        row = await recordings.get_recording(session, shelf["Painting 100%"])
    assert row.watched_at is not None


@pytest.mark.parametrize("body", [{"s": -1}, {"s": "x"}, {"s": 1e999}, {}, {"s": 1, "t": 2}])
async def test_a_place_that_cannot_be_is_refused(
    client: httpx.AsyncClient, shelf: dict[str, str], body: dict[str, Any]
) -> None:
    where = f"/api/recordings/{shelf['Painting 100%']}/position"
    content = str(body).replace("'", '"').replace("inf", "Infinity")
    answer = await client.put(where, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


async def test_what_is_deleted_is_gone_from_lists_and_comes_back(
    client: httpx.AsyncClient, shelf: dict[str, str]
) -> None:
    where = f"/api/recordings/{shelf['Evening chess']}"
    told = (await client.delete(where)).json()
    left = datetime.fromisoformat(told["purge_at"]) - datetime.fromisoformat(told["deleted_at"])
    assert left == timedelta(hours=24) and told["deleted_why"] == "by a person"
    assert await found(client) == ["Painting 100%", "Morning chess"]
    assert await found(client, "deleted=true") == ["Evening chess"]
    told = (await client.post(f"{where}/undelete")).json()
    assert told["deleted_at"] is None
    assert (await found(client))[0] == "Evening chess"


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        ({"status": "recording"}, "stop it first"),
        ({"status": "processing"}, "stop it first"),
        ({"status": "needs_attention"}, "give it up"),
        ({**DONE, "locked": True}, "unlock"),
    ],
    ids=str,
)
async def test_what_is_in_use_is_not_deleted(
    client: httpx.AsyncClient, opened: Opened, columns: dict[str, Any], hint: str
) -> None:
    recording_id = await opened(**columns)
    answer = await client.delete(f"/api/recordings/{recording_id}")
    assert answer.status_code == 409
    assert hint in answer.json()["hint"]


# ---- with workers


@pytest.fixture
async def app(settings: Settings, temporal_dev: WorkflowEnvironment) -> AsyncIterator[FastAPI]:
    address = temporal_dev.client.service_client.config.target_host

    changed = msgspec.structs.replace(
        settings, temporal_address=address, temporal_namespace=temporal_dev.client.namespace
    )
    application = create_app(changed)
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture
async def workers(
    app: FastAPI, temporal_dev: WorkflowEnvironment, db: Database, library: Path
) -> AsyncIterator[None]:
    client, runner = temporal_dev.client, UnsandboxedWorkflowRunner()
    retention = Retention(db, client, (library,))
    adopting = Adopting(db, (library,))
    moving = Moving(db, (library,), library / "images")
    async with (
        Worker(
            client,
            task_queue=CONTROL_QUEUE,
            workflows=[RunJob, SweepLibrary, AdoptLibrary],
            activities=[Jobs(db).run_job],
            workflow_runner=runner,
        ),
        Worker(
            client,
            task_queue=media_queue("here"),
            activities=[retention.sweep, adopting.adopt, moving.run_move],
        ),
    ):
        yield


async def ended(client: httpx.AsyncClient, job: dict[str, Any]) -> dict[str, Any]:
    for _ in range(PATIENCE_S * 10):
        told: dict[str, Any] = (await client.get(f"/api/jobs/{job['id']}")).json()
        if told["state"] == "done":
            return told
        await asyncio.sleep(0.1)
    raise AssertionError(f"the job does not end: {told}")


@pytest.mark.usefixtures("workers")
async def test_one_action_on_everything_that_matches(
    client: httpx.AsyncClient, db: Database, opened: Opened
) -> None:
    """More than one round of a hundred, and one that is locked among them."""
    ids = [await opened(f"k{n}", **{**DONE, "title": f"Night {n}"}) for n in range(230)]
    other = await opened("other", **{**DONE, "title": "Day"})
    async with db.begin() as session:
        await library.mark(session, ids[7], locked=True)
    answer = await client.post(
        "/api/recordings/bulk", json={"action": "delete", "filter": {"q": "night"}}
    )
    assert answer.status_code == 202 and answer.json()["total"] == 230
    told = await ended(client, answer.json())
    assert (told["done"], len(told["failed"])) == (229, 1)
    assert told["failed"][0]["id"] == str(ids[7]) and "locked" in told["failed"][0]["problem"]
    assert sorted(await found(client)) == ["Day", "Night 7"]
    assert str(other) not in told["failed"][0].values()
    assert [one["id"] for one in (await client.get("/api/jobs")).json()] == [told["id"]]


@pytest.mark.usefixtures("workers")
async def test_one_action_on_some_ids_and_its_undoing(
    client: httpx.AsyncClient, shelf: dict[str, str]
) -> None:
    ids = [shelf["Morning chess"], shelf["Evening chess"]]
    for action, titles in (
        ("delete", ["Painting 100%"]),
        ("undelete", ["Evening chess", "Painting 100%", "Morning chess"]),
    ):
        body = {"action": action, "ids": ids}
        job = (await client.post("/api/recordings/bulk", json=body)).json()
        assert (await ended(client, job))["done"] == 2
        assert await found(client) == titles


@pytest.mark.parametrize(
    "body",
    [
        {"action": "delete"},
        {"action": "delete", "ids": []},
        {"action": "burn", "filter": {}},
        {"action": "delete", "filter": {"catgory": "Chess"}},
        {"action": "delete", "filter": {}, "ids": ["018f0000-0000-7000-8000-000000000000"]},
    ],
    ids=str,
)
async def test_an_action_that_is_not_clear_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    assert (await client.post("/api/recordings/bulk", json=body)).status_code == 422


@pytest.mark.usefixtures("workers")
async def test_deleted_twice_the_files_go_now(
    client: httpx.AsyncClient, opened: Opened, library: Path
) -> None:
    (library / "a.mp4").write_bytes(b"x")
    recording_id = await opened(**{**DONE, "path": "a.mp4"})
    where = f"/api/recordings/{recording_id}"
    await client.delete(where)
    assert (library / "a.mp4").exists()
    assert (await client.delete(where)).status_code == 200
    for _ in range(PATIENCE_S * 10):
        if (await client.get(where)).status_code == 404:
            break
        await asyncio.sleep(0.1)
    assert not (library / "a.mp4").exists()
    assert (await client.delete(where)).status_code == 404


@pytest.mark.usefixtures("workers")
async def test_a_library_is_adopted_and_what_came_of_it_can_be_read(
    client: httpx.AsyncClient, library: Path
) -> None:
    assert (await client.get("/api/library/adopt")).json() is None
    recording_id = "018f0000-0000-7000-8000-000000000000"
    report = {
        "recording_id": recording_id,
        "streamer": "Alice",
        "title": "From before",
        "started_at": "2026-11-25T12:00:00Z",
        "files": [{"name": "a.mp4", "size_bytes": 1, "duration_s": 2.5}],
    }
    (library / "a.report.json").write_text(json.dumps(report))
    (library / "a.mp4").write_bytes(b"x")
    assert (await client.post("/api/library/adopt")).status_code == 202
    for _ in range(PATIENCE_S * 10):
        if told := (await client.get("/api/library/adopt")).json():
            break
        await asyncio.sleep(0.1)
    assert (told["added"], told["missing"], told["problems"]) == (1, [], [])
    shown = (await client.get(f"/api/recordings/{recording_id}")).json()
    assert (shown["title"], shown["path"], shown["duration_s"]) == ("From before", "a.mp4", 2.5)
    assert shown["playable"] == {"hls": False, "media": True}


# ---- moving


@pytest.mark.usefixtures("workers")
async def test_a_file_gets_the_name_of_todays_template(
    client: httpx.AsyncClient, opened: Opened, library: Path
) -> None:
    old = library / "old" / "a.mp4"
    old.parent.mkdir()
    old.write_bytes(b"film")
    values = {**DONE, "title": "Night", "path": "old/a.mp4", "started_at": NOON}
    recording_id = await opened("a", **values)
    await client.patch("/api/settings", json={"naming": "{streamer}/{title} {episode}"})

    answer = await client.post(f"/api/recordings/{recording_id}/move", json={"rename": True})
    assert answer.status_code == 202
    job = await ended(client, answer.json())
    assert (job["done"], job["failed"]) == (1, [])
    told = (await client.get(f"/api/recordings/{recording_id}")).json()
    assert told["path"] == "Alice/Night S2026E112501.mp4"
    assert (library / told["path"]).read_bytes() == b"film"
    assert not old.parent.exists()
    assert (await client.get(f"/api/recordings/{recording_id}/media")).content == b"film"


@pytest.mark.usefixtures("workers")
async def test_many_are_moved_by_a_filter(
    client: httpx.AsyncClient, opened: Opened, library: Path
) -> None:
    for number in range(3):
        (library / f"{number}.mp4").write_bytes(b"film")
        await opened(f"m{number}", **{**DONE, "path": f"{number}.mp4", "started_at": NOON})
    await opened("none", **DONE)
    body = {"action": "move", "filter": {"q": "alice"}, "move": {"rename": True}}
    job = await ended(client, (await client.post("/api/recordings/bulk", json=body)).json())
    assert (job["total"], job["done"]) == (4, 3)
    assert [one["problem"] for one in job["failed"]] == [
        "this recording has no file here: only finished files are moved"
    ]
    assert len(list(library.glob("Alice/Season 2026/*.mp4"))) == 3


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 422, "rename"),
        ({"to": "/etc"}, 422, "is not a library"),
        ({"rename": True}, 409, "no finished file"),
    ],
)
async def test_a_move_that_cannot_be_is_refused_at_once(
    client: httpx.AsyncClient, opened: Opened, body: dict[str, Any], status: int, words: str
) -> None:
    path = None if status == 409 else "x.mp4"
    recording_id = await opened("a", **{**DONE, "path": path})
    answer = await client.post(f"/api/recordings/{recording_id}/move", json=body)
    assert answer.status_code == status
    assert words in answer.text


async def test_only_a_move_has_a_place_to_go_to(client: httpx.AsyncClient, opened: Opened) -> None:
    ids = [str(await opened("a", **DONE))]
    for body in ({"action": "move"}, {"action": "lock", "move": {"rename": True}}):
        answer = await client.post("/api/recordings/bulk", json={**body, "ids": ids})
        assert answer.status_code == 422


# ---- settings


async def test_settings_have_defaults_and_go_back_to_them(client: httpx.AsyncClient) -> None:
    first = (await client.get("/api/settings")).json()
    assert first["retention_days"] == {"value": 0, "default": 0, "own": None}
    changed = await client.patch("/api/settings", json={"retention_days": 30})
    assert changed.json()["retention_days"] == {"value": 30, "default": 0, "own": 30}
    again = await client.patch("/api/settings", json={"retention_days": None})
    assert again.json() == first


async def test_a_streamer_has_the_general_settings_until_it_has_its_own(
    client: httpx.AsyncClient, db: Database
) -> None:
    async with db.begin() as session:
        new = NewStreamer("twitch", "alice", "Alice", "https://www.twitch.tv/alice")
        streamer, _ = await streamers.add_streamer(session, new)
    naming = "{streamer}/{episode}"
    await client.patch("/api/settings", json={"retention_count": 5, "naming": naming})
    where = f"/api/streamers/{streamer.id}"
    told = (await client.get(where)).json()["settings"]
    assert told["retention_count"] == {"value": 5, "default": 5, "own": None}
    assert told["naming"]["value"] == naming
    told = (await client.patch(where, json={"retention_count": 0})).json()["settings"]
    assert told["retention_count"] == {"value": 0, "default": 5, "own": 0}


async def test_a_broken_preference_counts_as_not_set(
    client: httpx.AsyncClient, db: Database
) -> None:
    async with db.begin() as session:
        await session.execute(
            text(
                "INSERT INTO preferences (name, value) VALUES ('retention_days', '\"soon\"'),"
                " ('naming', '\"{nonsense}\"'), ('of_another_release', '1')"
            )
        )
    told = (await client.get("/api/settings")).json()
    assert (told["retention_days"]["own"], told["naming"]["own"]) == (None, None)


@pytest.mark.parametrize(
    "body",
    [{"retention_days": -1}, {"naming": "{nonsense}"}, {"naming": "../{episode}"}, {"what": 1},
     {"library_bytes": 1.5}, {"library_bytes": 2**60}],
    ids=str,
)  # fmt: skip
async def test_a_setting_that_cannot_be_is_refused_and_changes_nothing(
    client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    before = (await client.get("/api/settings")).json()
    assert (await client.patch("/api/settings", json=body)).status_code == 422
    assert (await client.get("/api/settings")).json() == before


async def test_names_are_shown_before_they_are_made(
    client: httpx.AsyncClient, opened: Opened
) -> None:
    presets = (await client.get("/api/settings/naming")).json()["presets"]
    for template in presets.values():
        told = (
            await client.post("/api/settings/naming/preview", json={"template": template})
        ).json()
        assert told["problem"] is None and len(told["names"]) == 1
    await opened(
        **{**DONE, "title": "a/b: c?", "category": "Art", "started_at": NOON, "episode": 2}
    )
    told = (
        await client.post(
            "/api/settings/naming/preview",
            json={"template": "{category}/{year}-{month}-{day} {streamer} {episode} {title}"},
        )
    ).json()
    assert told["names"] == ["Art/2026-11-25 Alice S2026E112502 a b c.mp4"]
    told = (
        await client.post("/api/settings/naming/preview", json={"template": "{title.__class__}"})
    ).json()
    assert told["names"] == [] and "brace" in told["problem"]


async def test_retention_is_shown_before_it_deletes(
    client: httpx.AsyncClient, opened: Opened, library: Path
) -> None:
    for days, name in ((40, "old"), (1, "young")):
        (library / f"{name}.mp4").write_bytes(b"x")
        at = datetime.now(UTC) - timedelta(days=days)
        await opened(
            name, **{**DONE, "path": f"{name}.mp4", "title": name, "started_at": at}
        )  # fmt: skip
    told = (
        await client.post("/api/settings/retention/preview", json={"retention_days": 30})
    ).json()
    assert (told["recordings"], told["size_bytes"]) == (1, 1)
    assert (told["items"][0]["title"], told["items"][0]["why"]) == ("old", "older than 30 d")
    assert len(await found(client)) == 2
    nothing = await client.post("/api/settings/retention/preview", json={})
    assert nothing.json() == {"recordings": 0, "size_bytes": 0, "items": []}


# ---- storage


async def test_storage_says_what_takes_room_and_how_long_it_lasts(
    client: httpx.AsyncClient, db: Database, opened: Opened, library: Path
) -> None:
    async with db.begin() as session:
        new = NewStreamer("twitch", "alice", "Alice", "https://www.twitch.tv/alice")
        streamer, _ = await streamers.add_streamer(session, new)
    for weeks in (1, 2, 3, 4):
        at = datetime.now(UTC) - timedelta(weeks=weeks) + timedelta(hours=2)
        await opened(
            f"k{weeks}",
            **{**DONE, "started_at": at, "size_bytes": 700, "streamer_id": streamer.id},
        )
    await opened("now", status="recording", size_bytes=30)
    gone = await opened("gone", **{**DONE, "size_bytes": 5})
    await client.delete(f"/api/recordings/{gone}")
    told = (await client.get("/api/storage")).json()
    assert [disk["path"] for disk in told["disks"]] == [str(library)]
    disk = told["disks"][0]
    stat = os.statvfs(library)
    assert disk["total_bytes"] == stat.f_blocks * stat.f_frsize
    assert (told["finished_bytes"], told["unfinished_bytes"], told["deleted_bytes"]) == (
        2800,
        30,
        5,
    )
    assert told["bytes_per_day"] == round((700 + 30 + 5) / 7)
    left = disk["free_bytes"] - disk["reserve_bytes"]
    assert told["days_left"] == pytest.approx(left / (735 / 7), rel=0.01)
    assert [(one["name"], one["chance"], one["size_bytes"]) for one in told["likely"]] == [
        ("Alice", 1.0, 700)
    ]
    assert (told["needed_bytes"], told["enough"]) == (700, True)


# ---- damaged rows

DAMAGED = {
    "chapters = '[]'": [],  # not damaged: nobody said what the stream was called
    'chapters = \'[1, {"title": 5}, {"start_s": "x"}]\'': ["chapters"],
    "chapters = '7'": ["chapters"],
    "chapters = '\"x\"'": ["chapters"],
    "totals = '[]'": ["totals"],
    'totals = \'{"segments_lost": "many"}\'': ["totals"],
    "totals = '{\"segments_lost\": 1.5}'": ["totals"],
    "report = '[\"x\"]'": ["report"],
    "report = '{\"files\": 3}'": [],
    "verification = '[]', verified_at = now()": [],
    "path = '../../etc/passwd'": [],
    "path = ''": [],
    "directory = '/etc'": [],
    "workflow_id = ''": [],
}


@pytest.mark.parametrize("damage", DAMAGED)
async def test_a_damaged_row_breaks_no_list_and_no_look(
    client: httpx.AsyncClient, db: Database, shelf: dict[str, str], damage: str
) -> None:
    """Row F49: it says of itself what is lost."""
    bad = shelf["Painting 100%"]
    async with db.begin() as session:
        await session.execute(text(f"UPDATE recordings SET {damage} WHERE id = :id"), {"id": bad})
    assert len(await found(client)) == 3
    shown = (await client.get(f"/api/recordings/{bad}")).json()
    assert shown["damaged"] == DAMAGED[damage]
    for path in ("", "/report", "/poster.jpg", "/media", "/playlist.m3u8"):
        assert (await client.get(f"/api/recordings/{bad}{path}")).status_code < 500, path
    for path in ("/api/recordings/facets", "/api/pipelines", "/api/storage", "/", "/metrics"):
        assert (await client.get(path)).status_code == 200, path
    preview = await client.post("/api/settings/retention/preview", json={"library_bytes": 1})
    assert preview.status_code == 200
    async with db.begin() as session:
        await watch.unfinished(session)
