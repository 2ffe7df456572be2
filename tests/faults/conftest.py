from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import networks
from tests.e2e.conftest import channel, gate, own_up, shared_up
from tests.fake_twitch.client import FakeTwitch
from tests.networks import Network

__all__ = ["channel", "gate", "own_up", "shared_up"]

OUTAGE = "--outage-s"
# The long forms of the benchmark.
LONGER = {
    "--kills": (20, "kills of every process in one go"),
    "--cut-s": (60, "how long the cable is out"),
    "--hang-s": (30, "how long Temporal hangs"),
    "--cycles": (12, "recordings, four at a time"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OUTAGE, type=int, default=150, help="how long Twitch's API is away")
    for name, (default, words) in LONGER.items():
        parser.addoption(name, type=int, default=default, help=words)


@pytest.fixture
def outage_s(pytestconfig: pytest.Config) -> int:
    # The option is there only when pytest was given this folder.
    return int(pytestconfig.getoption(OUTAGE, default=150))


@pytest.fixture
def kills(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("--kills", default=LONGER["--kills"][0]))


@pytest.fixture
def cut_s(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("--cut-s", default=LONGER["--cut-s"][0]))


@pytest.fixture
def hang_s(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("--hang-s", default=LONGER["--hang-s"][0]))


@pytest.fixture
def cycles(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("--cycles", default=LONGER["--cycles"][0]))


@pytest.fixture
def network() -> Iterator[Network]:
    with networks.network() as made:
        yield made


@pytest.fixture
def far_twitch(network: Network, tmp_path: Path) -> Iterator[FakeTwitch]:
    """On the other end of the cable."""
    with FakeTwitch(tmp_path, "--host", network.address, inside=network.inside) as fake:
        yield fake
