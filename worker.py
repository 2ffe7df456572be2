"""Composition root of the workers: settings, clients, task queues, graceful shutdown.

A process takes one or more roles: `control` (workflows, catalog, notifications), `recorder`
(captures; best in a process of its own) and `processor` (ffmpeg work).
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import uvloop
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.client import Client
from temporalio.worker import Worker

from activities.engine import connect_temporal
from activities.proxies import Look
from roles.beat import Beat
from roles.contact import Polled, until_cut_off
from roles.parts import Parts, stops_within
from streamvault.contracts import CONTROL_QUEUE, RECORD_QUEUE
from streamvault.errors import DependencyUnavailable
from streamvault.logs import configure_logs
from streamvault.metrics.server import serve_metrics
from streamvault.settings import Settings

if TYPE_CHECKING:
    from streamvault.hls.captures import Captures
    from streamvault.hls.fetch import Fetcher

log = logging.getLogger(__name__)

ROLES = frozenset({"control", "recorder", "processor"})
CONNECT_PAUSE_S = 1.0
OPEN_FILES = 16_384
PROXY_LOOK_S = 10.0


def main(settings: Settings, roles: frozenset[str]) -> int:
    """Run the roles until SIGTERM or SIGINT; the exit code, 1 when Temporal gives no more work."""
    configure_logs(settings.log_level, settings.log_format)
    _allow_many_files()
    return uvloop.run(_run(settings, roles))


def _allow_many_files() -> None:
    """A recording holds five descriptors, and the usual limit of 1,024 is only the soft one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _run(settings: Settings, roles: frozenset[str]) -> int:
    stop = asyncio.Event()
    lost: list[str] = []
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        parts = Parts(settings)
        stack.push_async_callback(parts.db.close)
        stack.callback(parts.sources.close)
        captures = await _resume_captures(parts, stack) if "recorder" in roles else None
        if "control" in roles:
            _in_background(parts.proxies.keep_checking(_proxy_look(settings, stack)), stack)
        client = await _connect(settings, stop, await _show_figures(parts, stack))
        for worker in await _build(client, parts, roles, captures):
            await stack.enter_async_context(worker)
        if "control" in roles:
            _in_background(_look_after_what_runs(client, parts), stack)
        if "processor" in roles:
            _in_background(_keep_tidy(parts), stack)
        for queue in _must_poll(roles):
            _in_background(_stop_when_cut_off(client, queue, stop, lost), stack)
        beat = Beat(settings.data_dir, roles)
        stack.callback(beat.end)
        _in_background(beat.keep_up(), stack)
        if "control" in roles and settings.detection:
            await _detect(client, parts, stop)
        await stop.wait()
    return 1 if lost else 0


def _must_poll(roles: frozenset[str]) -> list[Polled]:
    """A processor may have all its hands full for an hour, and says nothing then."""
    polled = []
    if "recorder" in roles:
        polled.append(Polled(RECORD_QUEUE))
    if "control" in roles:
        polled.append(Polled(CONTROL_QUEUE, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW))
    return polled


async def _stop_when_cut_off(
    client: Client, queue: Polled, stop: asyncio.Event, lost: list[str]
) -> None:
    await until_cut_off(client, queue)
    lost.append(queue.name)
    stop.set()


async def _resume_captures(parts: Parts, stack: AsyncExitStack) -> Captures:
    from roles.recorder import resume_captures

    return await resume_captures(parts, stack)


async def _build(
    client: Client, parts: Parts, roles: frozenset[str], captures: Captures | None
) -> list[Worker]:
    workers: list[Worker] = []
    if captures is not None:
        from roles.recorder import recorder_workers, release_stale_attempts

        await release_stale_attempts(client, captures)
        workers += recorder_workers(client, parts, captures)
    if "control" in roles:
        from roles.control import control_worker

        workers.append(control_worker(client, parts))
    if "processor" in roles:
        from roles.processor import processor_worker

        workers.append(await processor_worker(client, parts))
    return workers


async def _look_after_what_runs(client: Client, parts: Parts) -> None:
    from roles.control import look_after_what_runs

    await look_after_what_runs(client, parts)


async def _keep_tidy(parts: Parts) -> None:
    from roles.processor import keep_tidy

    await keep_tidy(parts)


async def _detect(client: Client, parts: Parts, stop: asyncio.Event) -> None:
    from roles.detection import detect

    await detect(client, parts, stop)


def _proxy_look(settings: Settings, stack: AsyncExitStack) -> Look:
    """Loads libcurl with the first proxy that there is to look through."""
    made: list[Fetcher] = []

    async def look(url: str, proxy: str) -> None:
        if not made:
            from streamvault.hls.fetch import Fetcher

            made.append(Fetcher(settings.ca_bundle, settings.data_dir / "run"))
            stack.push_async_callback(made[0].aclose)
        await made[0].get_text(url, proxy=proxy, timeout_s=PROXY_LOOK_S, fresh=True)

    return look


def _in_background(work: Coroutine[Any, Any, None], stack: AsyncExitStack) -> None:
    task = asyncio.create_task(work)
    stack.callback(task.cancel)


# ---- Temporal and readiness


async def _show_figures(parts: Parts, stack: AsyncExitStack) -> int:
    """Serve `/metrics` if there is a port for it; the port for those of Temporal's client."""
    port = parts.settings.metrics_port
    if not port:
        return 0
    beside = _free_port()
    server = await serve_metrics(port, lambda: parts.own_figures(), [beside])
    stack.callback(server.close)
    return beside


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def _connect(settings: Settings, stop: asyncio.Event, metrics_port: int) -> Client:
    """Wait for Temporal for as long as it takes: captures run meanwhile."""
    while True:
        try:
            return await connect_temporal(settings, metrics_port)
        except DependencyUnavailable as error:
            log.warning("waiting for Temporal", extra={"why": error.one_line})
        if await stops_within(stop, CONNECT_PAUSE_S):
            raise SystemExit(0)
