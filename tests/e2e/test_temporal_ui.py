"""The operator's way: the Temporal UI in a real browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.e2e.conftest import Gate
from tests.e2e.pictures import decoded
from tests.e2e.product import Up
from tests.e2e.test_parking import parked_recording
from tests.fake_twitch.client import FakeChannel

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser.new_page(viewport={"width": 1400, "height": 1100})
        browser.close()


def test_a_parked_remux_is_retried_by_a_click(
    shared_up: Up, channel: FakeChannel, gate: Gate, page: Page
) -> None:
    with gate.failing():
        parked = parked_recording(shared_up, channel)
    recorded_at = _step(parked, "record")["ended_at"]

    page.goto(f"{_workflows(shared_up)}?query=SvNeedsAttention%3Dtrue")
    page.get_by_role("link", name=f"recording-{parked['id']}", exact=True).click()
    page.get_by_text("remux waits for a person").first.wait_for()
    page.get_by_role("button", name="More Actions").click()
    page.get_by_role("menuitem", name="Send an Update").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_test_id("update-select").locator("xpath=ancestor::button").click()
    page.get_by_role("option", name="retry").click()
    dialog.get_by_role("button", name="Submit").click()

    done = shared_up.wait_status(parked["id"], "completed")
    assert _step(done, "record")["ended_at"] == recorded_at
    stored = done["totals"]["segments_stored"]
    assert decoded(shared_up.library / done["path"]) == decoded(channel.content(0, stored))
    page.get_by_text("Completed", exact=False).first.wait_for()


def test_a_pipeline_given_up_is_in_the_list_of_the_failed(
    shared_up: Up, channel: FakeChannel, gate: Gate, page: Page
) -> None:
    with gate.failing():
        parked = parked_recording(shared_up, channel)
    shared_up.call("POST", f"/api/pipelines/{parked['workflow_id']}/give-up")
    shared_up.wait_status(parked["id"], "failed")
    page.goto(f"{_workflows(shared_up)}?query=ExecutionStatus%3D%22Failed%22")
    page.get_by_role("link", name=f"recording-{parked['id']}", exact=True).wait_for()


def test_a_step_of_a_finished_recording_is_run_again_by_a_click(
    shared_up: Up, channel: FakeChannel, page: Page
) -> None:
    recording = shared_up.record(url=channel.url)
    shared_up.wait_segments(recording["id"], 4)
    shared_up.ask(recording, "stop")
    done = shared_up.wait_status(recording["id"], "completed")
    final = shared_up.library / done["path"]
    before = final.stat()
    poster = final.with_name(f"{final.stem}-poster.jpg")
    poster.unlink()

    page.goto(_workflows(shared_up))
    page.get_by_role("link", name=f"recording-{done['id']}", exact=True).first.click()
    page.get_by_role("button", name="More Actions").click()
    page.get_by_role("menuitem", name="Start Workflow Like This One").click()
    editor = page.locator(".cm-content").filter(has_text=done["id"]).first
    order = json.loads(editor.inner_text())
    order |= {"again": True, "steps": ["thumbnails"]}
    editor.fill(json.dumps(order))
    page.get_by_role("button", name="Start Workflow", exact=True).click()

    shared_up.wait_for(poster.is_file, "the poster was not made again", timeout_s=60)
    again = shared_up.wait_status(done["id"], "completed")
    assert (final.stat().st_ino, final.stat().st_size) == (before.st_ino, before.st_size)
    assert again["totals"] == done["totals"]


def _workflows(up: Up) -> str:
    base = str(up.running["temporal_ui"]).rstrip("/")
    return f"{base}/namespaces/streamvault/workflows"


def _step(recording: dict[str, object], name: str) -> dict[str, object]:
    steps: list[dict[str, object]] = recording["steps"]  # type: ignore[assignment]
    return next(step for step in steps if step["name"] == name)
