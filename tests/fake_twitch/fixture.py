"""The pytest fixture; `tests/conftest.py` imports it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fake_twitch.client import FakeTwitch


@pytest.fixture(scope="session")
def fake_twitch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeTwitch]:
    """One fake for the whole run; each test takes a channel of its own from it."""
    with FakeTwitch(tmp_path_factory.mktemp("fake-twitch")) as fake:
        yield fake
