"""A remux that cannot be done waits for a person, and goes on where it stopped."""

from __future__ import annotations

from typing import Any

from tests.e2e.conftest import Gate
from tests.e2e.pictures import decoded
from tests.e2e.product import Up
from tests.fake_twitch.client import FakeChannel


def test_a_parked_remux_is_retried_through_the_api_without_the_steps_before_it(
    shared_up: Up, channel: FakeChannel, gate: Gate
) -> None:
    with gate.failing():
        parked = parked_recording(shared_up, channel)
    steps = {step["name"]: step for step in parked["steps"]}
    assert (steps["remux"]["state"], steps["remux"]["attempt"]) == ("parked", 3)
    assert "no such luck" in steps["remux"]["error"]
    pipeline = shared_up.get(f"/api/pipelines/{parked['workflow_id']}")
    assert pipeline["parked"] == ["remux"]
    recorded_at = steps["record"]["ended_at"]

    answer = shared_up.call("POST", f"/api/pipelines/{parked['workflow_id']}/retry")
    assert answer.status_code in {200, 202}, answer.text
    done = shared_up.wait_status(parked["id"], "completed")
    after = {step["name"]: step for step in done["steps"]}
    assert after["record"]["ended_at"] == recorded_at
    assert after["detect"] == steps["detect"]
    stored = done["totals"]["segments_stored"]
    assert decoded(shared_up.library / done["path"]) == decoded(channel.content(0, stored))


def test_a_pipeline_given_up_stands_as_failed_and_keeps_its_parts(
    shared_up: Up, channel: FakeChannel, gate: Gate
) -> None:
    with gate.failing():
        parked = parked_recording(shared_up, channel)
    answer = shared_up.call("POST", f"/api/pipelines/{parked['workflow_id']}/give-up")
    assert answer.status_code in {200, 202}, answer.text
    failed = shared_up.wait_status(parked["id"], "failed")
    stored = failed["totals"]["segments_stored"]
    assert shared_up.parts(parked["id"]) == channel.content(0, stored)
    letters = shared_up.get("/api/dead-letters")["items"]
    assert parked["id"] in str(letters)

    # Failed is not the end: with the cause gone, a retry starts it again.
    answer = shared_up.call("POST", f"/api/pipelines/{parked['workflow_id']}/retry")
    assert answer.status_code in {200, 202}, answer.text
    done = shared_up.wait_status(parked["id"], "completed")
    assert decoded(shared_up.library / done["path"]) == decoded(channel.content(0, stored))


def parked_recording(up: Up, channel: FakeChannel) -> dict[str, Any]:
    recording = up.record(url=channel.url)
    up.wait_segments(recording["id"], 4)
    up.ask(recording, "stop")
    return up.wait_status(recording["id"], "needs_attention", timeout_s=120)
