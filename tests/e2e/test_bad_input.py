"""What cannot work says so in one line, costs nothing, and ends with an exit code that is not 0."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e.product import Up
from tests.fake_twitch.client import FakeChannel, FakeTwitch


def said_in_one_line(up: Up, *arguments: str, **env: str) -> str:
    """The one line on standard error of a command that fails."""
    command = up.command(*arguments, **env)
    out, err = command.communicate(timeout=120)
    assert command.returncode not in {0, None}, out
    assert out == ""
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("streamvault: ")]
    assert len(lines) == 1, err
    return lines[0]


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("https://127.0.0.1:9/nothing/here", "127.0.0.1"),
        ("ftp://example.org/x.m3u8", "http"),
        ("/etc/passwd", "http"),
        ("hls://file:///etc/passwd", "http"),
        ("--player=xterm", "option"),
    ],
)
def test_an_address_that_nothing_can_be_recorded_from(shared_up: Up, url: str, cause: str) -> None:
    arguments = ("record", "--", url) if url.startswith("-") else ("record", url)
    line = said_in_one_line(shared_up, *arguments)
    if cause != "option":
        assert cause in line
    answer = shared_up.call("POST", "/api/recordings", {"url": url})
    assert answer.status_code in {422, 502, 503}
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["detail"]


def test_a_streamer_who_is_offline(shared_up: Up, fake_twitch: FakeTwitch) -> None:
    channel = fake_twitch.channel()
    assert "offline" in said_in_one_line(shared_up, "record", channel.url)
    answer = shared_up.call("POST", "/api/recordings", {"url": channel.url})
    assert answer.status_code in {404, 409, 422}
    assert "offline" in answer.json()["detail"]


def test_a_playlist_that_is_html(shared_up: Up, channel: FakeChannel) -> None:
    channel.fault("playlist", "html")
    line = said_in_one_line(shared_up, "record", f"hls://{channel.hls_url}")
    assert "playlist" in line


def test_every_segment_is_missing(shared_up: Up, channel: FakeChannel) -> None:
    channel.fault("segment", "status", status=404)
    line = said_in_one_line(shared_up, "record", f"hls://{channel.hls_url}")
    assert "404" in line


def test_a_wrong_environment_value(shared_up: Up) -> None:
    line = said_in_one_line(shared_up, "up", STREAMVAULT_PORT="eighty")
    assert "STREAMVAULT_PORT" in line


def test_a_second_supervisor(shared_up: Up) -> None:
    assert "already runs" in said_in_one_line(shared_up, "up")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_without_permission(
    shared_up: Up, channel: FakeChannel, tmp_path: Path
) -> None:
    tmp_path.chmod(0o500)
    line = said_in_one_line(shared_up, "record", channel.url, "--output", str(tmp_path))
    assert "permission" in line


def test_an_output_that_is_a_file(shared_up: Up, channel: FakeChannel, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = said_in_one_line(shared_up, "record", channel.url, "--output", str(tmp_path / "file"))
    assert "--output" in line
