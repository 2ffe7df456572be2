"""A person's stop and restart in every stage: the right state, and no file lost."""

from __future__ import annotations

from tests.e2e.conftest import Gate
from tests.e2e.pictures import decoded
from tests.e2e.product import Up
from tests.fake_twitch.client import FakeChannel, FakeTwitch


def test_stop_while_recording_finishes_what_is_there(shared_up: Up, channel: FakeChannel) -> None:
    recording = shared_up.record(url=channel.url)
    shared_up.wait_segments(recording["id"], 6)
    shared_up.ask(recording, "stop")
    done = shared_up.wait_status(recording["id"], "completed")
    stored = done["totals"]["segments_stored"]
    assert decoded(shared_up.library / done["path"]) == decoded(channel.content(0, stored))


def test_stop_while_detecting_fails_it_as_stopped(
    shared_up: Up, channel: FakeChannel, fake_twitch: FakeTwitch
) -> None:
    channel.fault("gql", "slow", seconds=3)
    recording = shared_up.record(url=channel.url)
    assert recording["status"] == "detecting"
    shared_up.ask(recording, "stop")
    done = shared_up.wait_status(recording["id"], "failed")
    assert (done["reason"], done["path"]) == ("stopped", None)

    # A person may start it again at once.
    fake_twitch.clear_faults()
    again = shared_up.record(url=channel.url)
    assert again["id"] != recording["id"]
    shared_up.wait_segments(again["id"], 3)
    shared_up.ask(again, "stop")
    shared_up.wait_status(again["id"], "completed")


def test_stop_while_remuxing_changes_nothing(
    shared_up: Up, channel: FakeChannel, gate: Gate
) -> None:
    with gate.closed():
        recording = shared_up.record(url=channel.url)
        shared_up.wait_segments(recording["id"], 4)
        shared_up.ask(recording, "stop")
        shared_up.wait_recording(recording["id"], _is_remuxing, "remuxing")
        shared_up.ask(recording, "stop")
    done = shared_up.wait_status(recording["id"], "completed")
    stored = done["totals"]["segments_stored"]
    assert decoded(shared_up.library / done["path"]) == decoded(channel.content(0, stored))


def test_restart_while_recording_goes_on_in_a_new_part_without_a_loss(
    shared_up: Up, channel: FakeChannel
) -> None:
    recording = shared_up.record(url=channel.url)
    shared_up.wait_segments(recording["id"], 6)
    shared_up.ask(recording, "restart")
    shared_up.wait_recording(recording["id"], lambda r: r["totals"]["restarts"] == 1, "restarted")
    so_far = shared_up.recording(recording["id"])["totals"]["segments_stored"]
    shared_up.wait_segments(recording["id"], so_far + 4)
    assert len(shared_up.recording(recording["id"])["parts"]) == 2
    channel.offline()
    done = shared_up.wait_status(recording["id"], "completed")
    assert (done["totals"]["segments_lost"], done["gaps"]) == (0, [])
    assert decoded(shared_up.library / done["path"]) == decoded(channel.content())


def test_restart_after_a_stop_goes_on_in_the_same_recording(
    shared_up: Up, channel: FakeChannel, gate: Gate
) -> None:
    with gate.closed():
        recording = shared_up.record(url=channel.url)
        shared_up.wait_segments(recording["id"], 5)
        shared_up.ask(recording, "stop")
        stopped = shared_up.wait_recording(recording["id"], _is_remuxing, "remuxing")
        shared_up.ask(recording, "restart")
        before = stopped["totals"]["segments_stored"]
        shared_up.wait_recording(
            recording["id"],
            lambda r: r["status"] == "recording" and r["totals"]["segments_stored"] > before + 3,
            "recording again",
        )
    channel.offline()
    done = shared_up.wait_status(recording["id"], "completed")
    # The window is 30 s, so nothing of the pause was lost.
    assert (done["totals"]["segments_lost"], done["gaps"]) == (0, [])
    assert decoded(shared_up.library / done["path"]) == decoded(channel.content())


def _is_remuxing(recording: dict[str, object]) -> bool:
    steps = {step["name"]: step["state"] for step in recording["steps"]}  # type: ignore[attr-defined]
    return recording["status"] == "processing" and steps["remux"] == "running"
