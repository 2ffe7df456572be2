"""Media sources for the tests, each made once per session."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from streamvault.media.ffmpeg import Ffmpeg, find_ffmpeg
from tests.streamvault.media.media_files import WHEEL, Source, encode


@pytest.fixture(scope="session")
def ffmpeg() -> Ffmpeg:
    """The one StreamVault picks on this machine."""
    return find_ffmpeg()


@pytest.fixture(scope="session", params=["system", "wheel"])
def each_ffmpeg(request: pytest.FixtureRequest, ffmpeg: Ffmpeg) -> Ffmpeg:
    if request.param == "wheel":
        return find_ffmpeg(WHEEL)
    if ffmpeg.path == WHEEL:
        pytest.skip("no ffmpeg on this system but the wheel's")
    return ffmpeg


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """`source(seconds, …)`: a media file with FPS frames and AUDIO_HZ samples per second."""
    directory = tmp_path_factory.mktemp("media")
    made: dict[tuple[object, ...], Path] = {}

    def make(
        seconds: float = 2,
        *,
        size: str = "160x90",
        video: str | None = "libx264",
        audio: bool = True,
        start_s: float = 0,
        suffix: str = ".ts",
        picture: str = "testsrc2",
    ) -> Path:
        key = (seconds, size, video, audio, start_s, suffix, picture)
        if key not in made:
            made[key] = directory / f"{len(made)}{suffix}"
            encode(made[key], seconds, size, video, audio, start_s, picture)
        return made[key]

    return make


@pytest.fixture(scope="session")
def cover(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cover") / "cover.jpg"
    Image.linear_gradient("L").convert("RGB").resize((320, 180)).save(path, "JPEG")
    return path
