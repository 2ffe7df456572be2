from __future__ import annotations

import pytest

from tests.e2e.conftest import channel, gate, own_up, shared_up

__all__ = ["channel", "gate", "own_up", "shared_up"]

OUTAGE = "--outage-s"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OUTAGE, type=int, default=150, help="how long Twitch's API is away")


@pytest.fixture
def outage_s(pytestconfig: pytest.Config) -> int:
    # The option is there only when pytest was given this folder.
    return int(pytestconfig.getoption(OUTAGE, default=150))
