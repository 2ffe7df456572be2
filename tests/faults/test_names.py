"""Names that cannot be resolved for a while: row F29."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from tests import names, networks
from tests.e2e.conftest import QUICK, Gate, short_folder
from tests.e2e.product import OWN_COMMAND, Up, stopped_afterwards
from tests.fake_twitch.client import FakeTwitch
from tests.faults.accounts import account, recovery_s, table_line, wait_stored
from tests.names import NameServer
from tests.networks import Network

pytestmark = pytest.mark.skipif(not networks.can_be_made(), reason="needs root and iproute2")

HOST = "edge.hls.ttvnw.net"
EACH_S = 12


@pytest.fixture
def server(network: Network) -> Iterator[NameServer]:
    with names.name_server(network.here, network.address) as running:
        yield running


@pytest.fixture
def up(network: Network, far_twitch: FakeTwitch, server: NameServer, gate: Gate) -> Iterator[Up]:
    """Nothing goes by a proxy, which would resolve the names itself."""
    env = QUICK | {
        "STREAMVAULT_FFMPEG": str(gate.ffmpeg),
        "STREAMVAULT_CA_BUNDLE": str(far_twitch.ca_bundle),
        "STREAMVAULT_ALLOWED_NETWORKS": "127.0.0.0/8,10.77.0.0/16",
    }
    with short_folder() as folder:
        command = (*names.asking(network.here, folder), *OWN_COMMAND)
        with stopped_afterwards(Up(folder / "vault", env, command)) as up:
            yield up


@pytest.mark.timeout(300)
def test_a_name_server_that_fails_costs_nothing(
    up: Up,
    far_twitch: FakeTwitch,
    server: NameServer,
    gate: Gate,
    record_property: Callable[..., None],
) -> None:
    channel = far_twitch.channel()
    channel.online()
    port = urlsplit(far_twitch.tls).port
    recording_id = str(up.record(url=f"https://{HOST}:{port}/hls/{channel.login}.m3u8")["id"])
    wait_stored(up, recording_id, 5)
    assert server.asked > 0

    for mode in ("servfail", "nxdomain", "silent"):
        server.mode = mode
        for target in ("playlist", "segment"):
            channel.fault(target, "reset", count=2)
        time.sleep(EACH_S)
        assert up.recording(recording_id)["status"] == "recording"
    server.mode = "ok"
    back_s = recovery_s(up, recording_id, channel)

    with gate.closed():
        channel.offline()
        up.wait_status(recording_id, "processing")
        found = account(up, recording_id, channel)
    words = f"SERVFAIL, NXDOMAIN, silence, {EACH_S} s each"
    record_property("fault", table_line("F29", words, found, back_s))
    assert found.is_honest
    assert found.lost == ()
    up.wait_status(recording_id, "completed", timeout_s=120)
