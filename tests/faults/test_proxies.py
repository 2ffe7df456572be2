"""Proxies that die in mid-recording: rows F34 and F35; and where their password may stand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Gate
from tests.e2e.product import Up
from tests.fake_twitch.client import FakeChannel, FakeTwitch
from tests.faults.accounts import account, recovery_s, table_line, wait_stored
from tests.proxies import Relay, relay_to

PASSWORD = "c4nary-w0rd"
Note = Callable[[str, str], None]


@pytest.fixture
def relays(fake_twitch: FakeTwitch) -> Iterator[tuple[Relay, Relay]]:
    with relay_to(fake_twitch.proxy_url) as one, relay_to(fake_twitch.proxy_url) as two:
        yield one, two


@pytest.fixture
def up(own_up: Callable[..., Up], gate: Gate, relays: tuple[Relay, Relay]) -> Up:
    """Everything goes by the first proxy, or by one that a person has added; nothing direct."""
    return own_up(
        FFMPEG=str(gate.ffmpeg), STREAM_PROXY=address(relays[0]), PROXY_POLICY="proxy-only"
    )


def address(relay: Relay) -> str:
    return f"http://somebody:{PASSWORD}@127.0.0.1:{relay.port}"


@pytest.mark.timeout(300)
def test_proxies_that_die_are_replaced_and_their_password_stands_nowhere(
    up: Up, channel: FakeChannel, relays: tuple[Relay, Relay], gate: Gate, record_property: Note
) -> None:
    first, second = relays
    body = {"url": address(second), "name": "the second"}
    assert up.call("POST", "/api/proxies", body).status_code == 201
    recording_id = str(up.record(url=channel.url)["id"])
    wait_stored(up, recording_id, 5)
    assert first.bytes_down > 0

    for how, died, goes_on in (("dead", first, second), ("slow", second, first)):
        goes_on.become("ok")
        died.become(how)
        began = time.monotonic()
        wait_stored(up, recording_id, channel.segments + 1)
        note(record_property, "F34", f"the proxy is {how}", up, recording_id, began)

    for relay in relays:
        relay.become("dead")
    time.sleep(8)
    while_dead = up.recording(recording_id)
    second.become("ok")
    began = time.monotonic()
    recovery_s(up, recording_id, channel)
    note(record_property, "F35", "all proxies are dead for 8 s", up, recording_id, began)
    assert while_dead["status"] in {"recording", "reconnecting"}

    with gate.closed():
        channel.offline()
        up.wait_status(recording_id, "processing")
        found = account(up, recording_id, channel)
        record_property("fault", table_line("F34-5", "after all of these", found, 0))
        assert (found.lost, found.foreign_bytes) == ((), 0), found
        assert leaks(up) == []
    up.wait_status(recording_id, "completed")
    assert leaks(up) == []


def note(record: Note, row: str, words: str, up: Up, recording_id: str, began: float) -> None:
    lost = up.recording(recording_id)["totals"]["segments_lost"]
    record(
        "fault", f"{row:5} {words:46} lost {lost:3}  back after {time.monotonic() - began:5.1f} s"
    )


def leaks(up: Up) -> list[str]:
    """Where the password stands: files, processes, answers."""
    found = [str(path) for path in _files(up) if PASSWORD.encode() in _content(path)]
    found += [
        str(path)
        for pid in up.pids.values()
        for path in (Path(f"/proc/{pid}/cmdline"),)
        if PASSWORD.encode() in _content(path)
    ]
    pages = ("/api/proxies", "/metrics", "/api/health", "/api/recordings", "/api/streamers")
    found += [page for page in pages if PASSWORD in up.call("GET", page).text]
    return found


def _files(up: Up) -> Iterator[Path]:
    for folder in (up.data_dir, up.library):
        yield from (path for path in folder.rglob("*") if path.is_file())
    yield up.log


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
