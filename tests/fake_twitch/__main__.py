"""Starts the fake: `python -m tests.fake_twitch --state-dir DIR [--live NAME]`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from tests.fake_twitch.control import Control
from tests.fake_twitch.control_eventsub import EventSubControl
from tests.fake_twitch.control_services import ServicesControl
from tests.fake_twitch.faults import Faults
from tests.fake_twitch.front import Clock
from tests.fake_twitch.media import Pools, find_ffmpeg
from tests.fake_twitch.origin import Origin
from tests.fake_twitch.proxy import HEAD_LIMIT, PIECE, Proxy
from tests.fake_twitch.services import make_services
from tests.fake_twitch.streams import Variant
from tests.fake_twitch.tls import Certificates, make_certificates
from tests.fake_twitch.tokens import CLIENT_ID, CLIENT_SECRET
from tests.fake_twitch.world import World

LOOPBACK = "127.0.0.1"
PARENT_CHECK_S = 0.5
TITLES = (
    ("Building a clock from scratch", "Makers & Crafting", "509673"),
    ("Counting frames, one by one", "Software and Game Development", "1469308723"),
    ("Endgames for beginners", "Chess", "743"),
    ("Just talking over breakfast", "Just Chatting", "509658"),
)


class Server(uvicorn.Server):
    """Two of them share one process, so neither may take the signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main() -> int:
    options = _parse()
    options.state_dir.mkdir(parents=True, exist_ok=True)
    asyncio.run(_run(options))
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fake_twitch", description=__doc__)
    parser.add_argument("--state-dir", type=Path, required=True, help="certificates and pools")
    parser.add_argument("--media-dir", type=Path, help="pools, to share them between runs")
    parser.add_argument("--port-file", type=Path, help="written when ready: addresses as JSON")
    parser.add_argument("--host", default=LOOPBACK, help="where it is met, from other places too")
    parser.add_argument("--port", type=int, default=0, help="of the plain listener")
    parser.add_argument("--live", action="append", default=[], help="a channel to start with")
    parser.add_argument("--profile", default="", help="media profile of those, such as 720p")
    parser.add_argument("--retitle-s", type=float, default=0, help="new titles for those, in turn")
    parser.add_argument("--ffmpeg", default=os.environ.get("FFMPEG", ""))
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


async def _run(options: argparse.Namespace) -> None:
    parent = os.getppid()
    certificates = make_certificates(options.state_dir)
    pools = Pools(options.media_dir or options.state_dir / "media", find_ffmpeg(options.ffmpeg))
    # Its own proxy reaches it by the loopback in any case.
    bound_to = LOOPBACK if options.host == LOOPBACK else "0.0.0.0"
    sockets = _listen(bound_to, options.port), _listen(bound_to, 0)
    plain_port, tls_port = (sock.getsockname()[1] for sock in sockets)
    world, faults = World(options.seed), Faults()
    services = make_services(world, faults, certificates.ca)
    origin = Origin(world, pools, faults, services.calls)
    proxy = Proxy(tls_port, plain_port)
    control = Control(origin, services, proxy)
    app = _app(control)
    servers = [Server(_config(app)), Server(_config(app, certificates))]
    gate = await asyncio.start_server(proxy.serve, bound_to, 0, limit=max(HEAD_LIMIT, PIECE))
    proxy_port = gate.sockets[0].getsockname()[1]
    _stop_with(servers)
    for login in options.live:
        await _go_live(control, login, options.profile)
    serving = [
        asyncio.create_task(server.serve(sockets=[sock]))
        for server, sock in zip(servers, sockets, strict=True)
    ]
    while not all(server.started for server in servers):  # noqa: ASYNC110  # uvicorn has no event
        await asyncio.sleep(0.01)
    addresses = _addresses(options.host, plain_port, tls_port, proxy_port, certificates)
    _announce(addresses, options.port_file)
    beside = [
        asyncio.create_task(_end_with_parent(parent, servers)),
        asyncio.create_task(services.tick()),
    ]
    if options.retitle_s:
        beside.append(asyncio.create_task(_retitle(world, options.retitle_s)))
    await asyncio.gather(*serving)
    for task in beside:
        task.cancel()
    proxy.cut()
    gate.close()


def _app(control: Control) -> Clock:
    services = control.services
    routes = [
        *control.routes(),
        *EventSubControl(services.eventsub).routes(),
        *ServicesControl(services).routes(),
        *services.routes(),
        *control.origin.routes(),
    ]
    return Clock(Starlette(routes=routes), services.knobs)


def _config(app: Clock, certificates: Certificates | None = None) -> uvicorn.Config:
    tls = (
        {"ssl_certfile": certificates.chain, "ssl_keyfile": certificates.key}
        if certificates
        else {}
    )
    # A handler that cuts a connection raises, which uvicorn would log as an error with a traceback.
    return uvicorn.Config(
        app,
        log_level="critical",
        access_log=False,
        date_header=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
        **tls,  # type: ignore[arg-type]
    )


def _listen(host: str, port: int) -> socket.socket:
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it on, each
    # small answer waits 40 ms for the client's delayed acknowledgement of its head.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(512)
    return listener


def _stop_with(servers: list[Server]) -> None:
    def stop() -> None:
        for server in servers:
            server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


async def _end_with_parent(parent: int, servers: list[Server]) -> None:
    """A killed test run must not leave us behind."""
    while os.getppid() == parent:  # noqa: ASYNC110  # the kernel has no event for this either
        await asyncio.sleep(PARENT_CHECK_S)
    for server in servers:
        server.should_exit = True


async def _retitle(world: World, every_s: float) -> None:
    """What streamers do now and then; recordings get chapters from it."""
    for turn in count(1):
        await asyncio.sleep(every_s)
        for place, channel in enumerate(list(world.channels.values())):
            channel.describe(*TITLES[(place + turn) % len(TITLES)])


async def _go_live(control: Control, login: str, profile: str) -> None:
    channel = control.origin.world.add(login)
    if profile:
        source = Variant(f"{profile}30", profile, source=True)
        channel.variants = (source, *channel.variants[1:])
    place = len(control.origin.world.channels) - 1
    channel.title, channel.category, channel.category_id = TITLES[place % len(TITLES)]
    await control.warm(channel)
    channel.go_online(channel.options)


def _addresses(
    host: str, plain: int, tls: int, proxy: int, certificates: Certificates
) -> dict[str, object]:
    origin = f"http://{host}:{plain}"
    env = {
        "STREAM_PROXY": f"http://{host}:{proxy}",
        "CA_BUNDLE": str(certificates.ca.resolve()),
        "TWITCH_HELIX_URL": f"{origin}/helix",
        "TWITCH_AUTH_URL": f"{origin}/oauth2",
        "TWITCH_EVENTSUB_WS_URL": f"ws://{host}:{plain}/ws",
        "ALLOW_INSECURE_TWITCH": "1",
        "TWITCH_CLIENT_ID": CLIENT_ID,
        "TWITCH_CLIENT_SECRET": CLIENT_SECRET,
    }
    return {
        "pid": os.getpid(),
        "plain": origin,
        "tls": f"https://{host}:{tls}",
        "env": {f"STREAMVAULT_{name}": value for name, value in env.items()},
    }


def _announce(addresses: dict[str, object], file: Path | None) -> None:
    text = json.dumps(addresses, indent=2)
    if file is None:
        print(text, flush=True)
    else:
        scratch = file.with_suffix(".new")
        scratch.write_text(text)
        scratch.rename(file)


if __name__ == "__main__":
    sys.exit(main())
