"""Property tests here check contents, never time: the machine that runs them may be busy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.streamvault.hls.hls_origin import Origin, run_origin
from tests.streamvault.hls.recording import Recorder, run_recorder

settings.register_profile("streamvault", deadline=None)
settings.load_profile("streamvault")


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with run_origin() as origin:
        yield origin


@pytest.fixture
async def recorder(origin: Origin, tmp_path: Path) -> AsyncIterator[Recorder]:
    async with run_recorder(origin, tmp_path / "r1") as recorder:
        yield recorder
