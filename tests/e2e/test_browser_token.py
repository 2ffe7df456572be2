"""The browser token: in the player's questions to Twitch, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from tests.e2e.product import Up
from tests.fake_twitch.client import FakeChannel, FakeTwitch

ALICE, BOB = "alice_of_the_browser", "bob_of_the_browser"
LIVES_S = 3


def files_with(canary: bytes, folder: Path) -> list[str]:
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and canary in path.read_bytes()
    ]


def command_lines(up: Up) -> Iterator[str]:
    assert up.process is not None
    for process in psutil.Process(up.process.pid).children(recursive=True):
        try:
            yield "\0".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue


def is_valid(fake: FakeTwitch, login: str) -> bool:
    return any(t.valid for t in fake.tokens() if t.kind == "browser" and t.login == login)


def test_a_recording_uses_the_token_and_leaves_no_trace_of_it(
    own_up: Callable[..., Up], fake_twitch: FakeTwitch, channel: FakeChannel
) -> None:
    fake_twitch.channel(ALICE)
    token = fake_twitch.browser_token(ALICE)
    up = own_up(LOG_LEVEL="debug")
    stored = up.call("PUT", "/api/twitch/browser-token", {"token": token})
    assert stored.status_code == 200, stored.text

    fake_twitch.clear_calls()
    started = up.record(url=channel.url)
    up.wait_segments(started["id"], 4)
    asked = fake_twitch.calls("gql")
    assert asked and {call.login for call in asked} == {ALICE}
    assert not any(token in line for line in command_lines(up))

    up.ask(started, "stop")
    up.wait_status(started["id"], "completed")
    answers = [
        up.call("GET", path).text
        for path in (
            "/api/twitch/status",
            "/api/health",
            "/metrics",
            f"/api/recordings/{started['id']}",
            f"/api/recordings/{started['id']}/report",
            f"/api/pipelines/{started['workflow_id']}",
        )
    ]
    assert not any(token in answer for answer in answers)
    # Databases, Temporal's histories, journals and parts are all below the data folder.
    assert files_with(token.encode(), up.data_dir) == []
    assert token not in up.log.read_text(errors="replace")


def test_a_token_that_ended_costs_no_recording(
    own_up: Callable[..., Up], fake_twitch: FakeTwitch, channel: FakeChannel
) -> None:
    fake_twitch.channel(BOB)
    # The token belongs to Twitch's own site, so no application of ours is needed.
    up = own_up(TWITCH_CLIENT_ID="", TWITCH_CLIENT_SECRET="")
    token = fake_twitch.browser_token(BOB, expires_in_s=LIVES_S)
    assert up.call("PUT", "/api/twitch/browser-token", {"token": token}).status_code == 200
    up.wait_for(lambda: not is_valid(fake_twitch, BOB), "ended", 10 * LIVES_S)
    fake_twitch.clear_calls()
    started = up.record(url=channel.url)
    up.wait_segments(started["id"], 4)
    # Asked with the token, refused, and asked without.
    assert {call.status for call in fake_twitch.calls("gql")} >= {200, 401}
    up.ask(started, "stop")
    done = up.wait_status(started["id"], "completed")
    assert done["gaps"] == []
