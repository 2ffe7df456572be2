"""Twitch's API fails for two and a half minutes, in `./sv bench faults` for ten; recordings and
detection go on."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import QUICK, short_folder
from tests.e2e.product import Up, running_up
from tests.fake_twitch.client import FakeTwitch
from tests.fake_twitch.client_words import Application

# The circuit opens after 5 failures and lets one call through each 60 s, give or take a tenth.
PROBE_EVERY_S = 54
UNTIL_OPEN = 5


@pytest.fixture
def app(fake_twitch: FakeTwitch) -> Iterator[Application]:
    yield fake_twitch.application()
    fake_twitch.reset()


@pytest.fixture
def up(app: Application) -> Iterator[Up]:
    with short_folder() as folder, running_up(folder / "vault", app.env | QUICK) as up:
        yield up


def started(up: Up, streamer_id: str, timeout_s: float) -> str:
    """The id of the one recording of a streamer, once it holds a segment."""
    path = f"/api/recordings?streamer_id={streamer_id}"
    up.wait_for(lambda: bool(up.get(path)["items"]), f"started: {streamer_id}", timeout_s)
    [recording] = up.get(path)["items"]
    up.wait_segments(recording["id"], 1, timeout_s)
    return str(recording["id"])


@pytest.mark.timeout(1200)
def test_an_outage_of_helix_costs_no_recording_and_few_calls(
    fake_twitch: FakeTwitch, app: Application, up: Up, outage_s: int
) -> None:
    running, told, untold = (fake_twitch.channel() for _ in range(3))
    follows = {channel.login: up.follow(channel.login) for channel in (running, told, untold)}
    up.wait_for(
        lambda: len(fake_twitch.subscriptions(app=app)) == 9, "subscribed to everything", 40
    )
    running.online()
    first = started(up, follows[running.login], 20)

    began = time.monotonic()
    outage = {"client_id": app.client_id, "duration_s": outage_s}
    fake_twitch.clear_calls()
    fake_twitch.fault("helix.streams", "status", status=500, **outage)
    fake_twitch.fault("helix.users", "hang", **outage)
    fake_twitch.fault("eventsub", "status", status=429, seconds=5, **outage)
    up.wait_for(lambda: _circuit(up, "helix") == "open", "the circuit opens", 90)

    told.online()
    second = started(up, follows[told.login], 20)
    fake_twitch.disturb("drop", channel=untold.login)
    untold.online()
    # Neither EventSub nor Helix say anything of this one: the player is asked.
    third = started(up, follows[untold.login], 30)

    time.sleep(max(0.0, outage_s - (time.monotonic() - began)))
    calls = fake_twitch.calls("helix", app=app)
    allowed = UNTIL_OPEN + outage_s // PROBE_EVERY_S + 1
    assert len(calls) <= allowed, [(call.at, call.path, call.status) for call in calls]
    assert _circuit(up, "eventsub") == "closed"  # 429 is no failure
    before = {i: up.recording(i)["totals"]["segments_stored"] for i in (first, second, third)}
    for recording_id, stored in before.items():
        recording = up.wait_segments(recording_id, stored + 2)
        assert recording["status"] == "recording"
        assert recording["totals"]["segments_lost"] == 0
        assert recording["gaps"] == []


def _circuit(up: Up, name: str) -> str:
    """As the worker sees it."""
    circuits = up.get("/api/twitch/status")["circuits"]
    return str(circuits["worker"][name]["state"])
