"""Whoever reports a stream, and however badly: it is recorded once."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.product import Up
from tests.fake_twitch.client import FakeChannel, FakeTwitch
from tests.fake_twitch.client_words import Application

NEVER_S = "3600"
MANY = 33


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Watcher:
    """A product that follows streamers with an application of its own."""

    def __init__(self, fake: FakeTwitch, app: Application, up: Up) -> None:
        self.fake, self.app, self.up = fake, app, up

    def follow(self, **fields: Any) -> tuple[FakeChannel, str]:
        """A channel of the test's own, followed; returns when Twitch tells us of it."""
        channel = self.fake.channel(**fields)
        streamer_id = self.up.follow(channel.login)
        if self.transport != "poll":
            self.up.wait_for(lambda: self.subscribed(channel) == 3, "subscribed", 30)
        return channel, streamer_id

    def sign_in(self) -> None:
        """Connect an account by the code that a person enters at Twitch."""
        viewer = self.fake.channel()
        code = self.up.call("POST", "/api/twitch/device").json()
        self.fake.approve_code(code["user_code"], viewer.login)
        path = f"/api/twitch/device/{code['id']}"
        self.up.wait_for(lambda: self.up.get(path)["state"] == "connected", "connected", 30)

    def subscribed(self, channel: FakeChannel) -> int:
        return sum(
            sub["condition"].get("broadcaster_user_id") == channel.user_id
            and sub["status"] == "enabled"
            for sub in self.fake.subscriptions(app=self.app)
        )

    @property
    def transport(self) -> str:
        status: dict[str, Any] = self.up.get("/api/twitch/status")
        return str((status["transport"] or {}).get("transport", ""))

    def recordings(self, streamer_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.up.get(f"/api/recordings?streamer_id={streamer_id}")[
            "items"
        ]
        return found

    def recorded(self, streamer_id: str, timeout_s: float = 30) -> dict[str, Any]:
        """The one recording of this streamer, once it holds a segment."""
        self.up.wait_for(lambda: bool(self.recordings(streamer_id)), "started", timeout_s)
        [recording] = self.recordings(streamer_id)
        return self.up.wait_segments(recording["id"], 1, timeout_s)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of the series that carry these labels."""
        page = self.up.call("GET", "/metrics").text
        return sum(
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == f"streamvault_{name}" and labels.items() <= sample.labels.items()
        )


Watch = Callable[..., Watcher]


@pytest.fixture
def watch(fake_twitch: FakeTwitch, own_up: Callable[..., Up]) -> Iterator[Watch]:
    """Starts one; `webhook` gives Twitch an address to call, `sign_in` an account to use."""

    def start(*, webhook: bool = False, sign_in: bool = False, **env: str) -> Watcher:
        app = fake_twitch.application()
        names = {name.removeprefix("STREAMVAULT_"): value for name, value in app.env.items()}
        if webhook:
            port = str(free_port())
            names |= {"PORT": port, "BASE_URL": f"http://127.0.0.1:{port}"}
        watcher = Watcher(fake_twitch, app, own_up(**(names | env)))
        if sign_in:
            watcher.sign_in()
        wanted = env.get("EVENTSUB_TRANSPORT", "webhook" if webhook else "conduit")
        watcher.up.wait_for(lambda: watcher.transport == wanted, f"on {wanted}", 30)
        return watcher

    yield start
    fake_twitch.reset()


def at_once(work: list[Callable[[], object]]) -> None:
    with ThreadPoolExecutor(len(work)) as threads:
        for done in [threads.submit(one) for one in work]:
            done.result()


def test_a_hundred_starts_from_all_sources_are_one_recording(watch: Watch) -> None:
    watcher = watch(webhook=True)
    channel, streamer_id = watcher.follow()
    channel.online()
    told: list[Callable[[], object]] = [lambda: channel.announce("stream.online")] * MANY
    by_id: list[Callable[[], object]] = [lambda: watcher.up.record(streamer_id=streamer_id)] * MANY
    by_url: list[Callable[[], object]] = [
        lambda: watcher.up.record(url=f"https://www.twitch.tv/{channel.login}")
    ] * MANY
    at_once(told + by_id + by_url)
    recording = watcher.recorded(streamer_id)
    pipelines = watcher.up.get("/api/pipelines")["items"]
    ours = [p for p in pipelines if p["workflow_id"] == recording["workflow_id"]]
    assert len(ours) == 1
    stored = recording["totals"]["segments_stored"]
    grown = watcher.up.wait_segments(recording["id"], stored + 2)
    assert grown["totals"]["segments_lost"] == 0
    assert len(watcher.recordings(streamer_id)) == 1


@pytest.mark.parametrize("transport", ["webhook", "conduit", "websocket"])
def test_each_transport_alone_is_enough(
    watch: Watch, fake_twitch: FakeTwitch, transport: str
) -> None:
    watcher = watch(
        webhook=transport == "webhook",
        sign_in=transport == "websocket",
        EVENTSUB_TRANSPORT=transport,
        POLL_INTERVAL_S=NEVER_S,
    )
    channel, streamer_id = watcher.follow()
    channel.online()
    recording = watcher.recorded(streamer_id)
    assert recording["stream_id"]
    sent = fake_twitch.deliveries(app=watcher.app, type="stream.online")
    assert {delivery.transport for delivery in sent} == {transport}
    channel.change(title="Another title", category="Chess")
    watcher.up.wait_recording(
        recording["id"],
        lambda r: [c["title"] for c in r["chapters"]][-1:] == ["Another title"],
        "retitled",
        20,
    )


def test_the_poll_alone_is_enough(watch: Watch) -> None:
    watcher = watch(EVENTSUB_TRANSPORT="poll")
    channel, streamer_id = watcher.follow()
    channel.online()
    watcher.recorded(streamer_id)
    assert watcher.fake.deliveries(app=watcher.app) == []


@contextmanager
def disturbed(fake: FakeTwitch, kind: str, **fields: Any) -> Iterator[None]:
    fake.disturb(kind, type="stream.online", **fields)
    try:
        yield
    finally:
        fake.clear_disturbances()


def test_messages_lost_doubled_late_forged_and_stale(watch: Watch, fake_twitch: FakeTwitch) -> None:
    watcher = watch(webhook=True, POLL_INTERVAL_S="3")
    cases: dict[str, dict[str, Any]] = {
        "drop": {},
        "duplicate": {"copies": 5},
        "reorder": {"seconds": 2},
        "delay": {"seconds": 2},
        "forge": {},
        "stale": {},
    }
    followed = {kind: watcher.follow() for kind in cases}
    for kind, fields in cases.items():
        channel, streamer_id = followed[kind]
        with disturbed(fake_twitch, kind, channel=channel.login, **fields):
            channel.online()
            if kind == "reorder":
                channel.offline()
                channel.online()
            watcher.recorded(streamer_id)
    watcher.up.wait_for(
        lambda: all(d.status for d in fake_twitch.deliveries(app=watcher.app) if d.kind != "drop"),
        "all sent",
        30,
    )
    by_kind: dict[str, list[int]] = {}
    for delivery in fake_twitch.deliveries(app=watcher.app, type="stream.online"):
        if delivery.message_type == "notification":
            by_kind.setdefault(delivery.kind, []).append(delivery.status)
    assert by_kind.pop("forge") == [403] and by_kind.pop("stale") == [403]
    assert by_kind.pop("drop") == [0]
    assert {status for statuses in by_kind.values() for status in statuses} == {204}
    assert watcher.metric("eventsub_messages_total", result="bad_signature") == 1
    assert watcher.metric("eventsub_messages_total", result="stale") == 1
    assert watcher.metric("eventsub_messages_total", result="duplicate") == 5
    refused = [line for line in watcher.up.tail(1000).splitlines() if "webhook refused" in line]
    assert len(refused) == 2 and all(json.loads(line.partition("|")[2]) for line in refused)
    for kind, (_, streamer_id) in followed.items():
        ids = {r["stream_id"] for r in watcher.recordings(streamer_id)}
        assert len(ids) == len(watcher.recordings(streamer_id)), kind


def test_a_stream_that_begins_while_the_api_is_down(watch: Watch) -> None:
    watcher = watch(webhook=True, POLL_INTERVAL_S="2")
    channel, streamer_id = watcher.follow()
    api = watcher.up.pids["api"]
    os.kill(api, signal.SIGSTOP)
    try:
        channel.online()
        # The poll does not need the API; nobody else could have told of this stream.
        parts = watcher.up.library
        watcher.up.wait_for(lambda: any(parts.rglob("part-0001.ts")), "recorded", 30)
    finally:
        os.kill(api, signal.SIGKILL)
    watcher.up.wait_for(lambda: watcher.up.pids["api"] != api, "a new API", 30)
    watcher.up.wait_for(lambda: watcher.up.is_ready, "ready", 30)
    recording = watcher.recorded(streamer_id)
    assert recording["totals"]["segments_lost"] == 0


def test_a_webhook_that_comes_while_the_worker_is_down(watch: Watch) -> None:
    watcher = watch(webhook=True, POLL_INTERVAL_S=NEVER_S)
    channel, streamer_id = watcher.follow()
    worker = watcher.up.pids["worker-control-processor"]
    os.kill(worker, signal.SIGSTOP)
    try:
        channel.online()
        watcher.up.wait_for(
            lambda: any(
                delivery.status == 204
                for delivery in watcher.fake.deliveries(app=watcher.app, type="stream.online")
            ),
            "taken in",
            20,
        )
        assert watcher.recordings(streamer_id) == []
    finally:
        os.kill(worker, signal.SIGKILL)
    watcher.recorded(streamer_id, 60)


def test_flaps_of_one_stream_are_one_recording_and_a_new_stream_another(watch: Watch) -> None:
    watcher = watch(webhook=True, END_GRACE_S="4")
    channel, streamer_id = watcher.follow()
    channel.online()
    first = watcher.recorded(streamer_id)
    for _ in range(5):
        channel.offline()
        time.sleep(0.5)
        channel.online(stream_id="same")
        before = watcher.up.recording(first["id"])["totals"]["segments_stored"]
        watcher.up.wait_segments(first["id"], before + 1)
    assert [r["id"] for r in watcher.recordings(streamer_id)] == [first["id"]]
    channel.offline()
    channel.online()
    watcher.up.wait_for(lambda: len(watcher.recordings(streamer_id)) == 2, "another one", 30)
    second = watcher.recordings(streamer_id)[0]
    assert second["stream_id"] != first["stream_id"]
    assert second["continues"] == first["id"]
    done = watcher.up.wait_status(first["id"], "completed")
    assert done["totals"]["segments_lost"] == 0
    watcher.up.wait_segments(second["id"], 1)


def test_what_a_filter_denies_is_recorded_once_the_title_fits(watch: Watch) -> None:
    watcher = watch(webhook=True)
    channel, streamer_id = watcher.follow(title="Just chatting")
    answer = watcher.up.call(
        "PATCH", f"/api/streamers/{streamer_id}", {"filters": {"title_allow": ["speedrun"]}}
    )
    assert answer.status_code == 200, answer.text
    channel.online()
    watcher.up.wait_for(
        lambda: bool(watcher.up.get(f"/api/streamers/{streamer_id}")["live"]), "seen live", 20
    )
    time.sleep(2)
    assert watcher.recordings(streamer_id) == []
    channel.change(title="Speedrun, any %")
    watcher.recorded(streamer_id)


def test_what_a_person_stopped_no_source_starts_again(watch: Watch) -> None:
    watcher = watch(webhook=True)
    channel, streamer_id = watcher.follow()
    channel.online()
    recording = watcher.recorded(streamer_id)
    watcher.up.ask(recording, "stop")
    watcher.up.wait_status(recording["id"], "completed")
    for _ in range(3):
        channel.announce("stream.online")
        time.sleep(1)
    assert len(watcher.recordings(streamer_id)) == 1
    watcher.up.record(streamer_id=streamer_id)
    watcher.up.wait_for(lambda: len(watcher.recordings(streamer_id)) == 2, "by hand", 20)
