"""Composition root of the workers: settings, clients, task queues, graceful shutdown.

A process takes one or more roles: `control` (workflows, catalog, notifications), `recorder`
(captures; best in a process of its own) and `processor` (ffmpeg work).
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.browser_token import BrowserToken
from activities.engine import connect_temporal
from activities.proxies import Look, ProxyBook
from activities.translate import TranslateErrors
from streamvault.contracts import (
    BEAT_S,
    CONTROL_QUEUE,
    DETECT_QUEUE,
    RECORD_QUEUE,
    host_queue,
    media_queue,
)
from streamvault.db import streamers
from streamvault.db.session import Database
from streamvault.errors import DependencyUnavailable
from streamvault.logs import configure_logs
from streamvault.metrics.server import serve_metrics
from streamvault.playback.sources import Sources
from streamvault.settings import Settings, stable_host_id

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from activities.detection import Detection
    from activities.twitch_access import TwitchAccess
    from streamvault.hls.captures import Captures
    from streamvault.hls.fetch import Fetcher

log = logging.getLogger(__name__)

ROLES = frozenset({"control", "recorder", "processor"})
# A stop is learnt in a heartbeat's reply, and heartbeats are throttled to this.
BEAT = timedelta(seconds=BEAT_S)
# A capture closes its part within a second or two; the rest is room for a slow disk.
DRAIN_TIME = timedelta(seconds=20)
CONNECT_PAUSE_S = 1.0
PROXY_LOOK_S = 10.0
FOLLOWED_LOOK_S = 3.0  # until somebody is followed for the first time
# Media steps wait inside for the one remux at a time; small ones need not wait behind it.
MEDIA_SLOTS = 4
CONTROL_SLOTS = 100
RECORDER_SLOTS = 200
DETECT_SLOTS = 20


# Workflow modules are loaded once. By default each workflow imports them anew from the disk, and an
# update under a running worker would mix old code with new.
WORKFLOW_RUNNER = SandboxedWorkflowRunner(
    restrictions=SandboxRestrictions.default.with_passthrough_modules(
        "workflows", "activities", "streamvault"
    )
)


def main(settings: Settings, roles: frozenset[str]) -> int:
    """Run the roles until SIGTERM or SIGINT; the exit code."""
    configure_logs(settings.log_level, settings.log_format)
    uvloop.run(_run(settings, roles))
    return 0


async def _run(settings: Settings, roles: frozenset[str]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        parts = _Parts(settings)
        stack.push_async_callback(parts.db.close)
        stack.callback(parts.sources.close)
        captures = await _resume_captures(parts, stack) if "recorder" in roles else None
        if "control" in roles:
            _in_background(parts.proxies.keep_checking(_proxy_look(settings, stack)), stack)
        client = await _connect(settings, stop, await _show_figures(parts, stack))
        for worker in await _build(client, parts, roles, captures):
            await stack.enter_async_context(worker)
        detects = "control" in roles and settings.detection
        if detects and settings.twitch_client_id:
            _check_key(settings)
        with _ready_file(settings.data_dir, roles):
            if detects:
                await _detect(client, parts, stop)
            await stop.wait()


class _Parts:
    """What the roles share: one database pool and one way to look at sources."""

    def __init__(self, settings: Settings) -> None:
        assert settings.database_url is not None
        self.settings = settings
        self.host_id = stable_host_id(settings)
        self.db = Database(
            settings.database_url.get_secret_value(),
            pool_size=settings.db_pool_size or 5,
            max_overflow=settings.db_max_overflow or 10,
        )
        self.proxies = ProxyBook(self.db, settings)
        self.sources = Sources(
            ca_bundle=settings.ca_bundle,
            twitch_token=BrowserToken(settings, self.db),
            pool=self.proxies.pool,
            prepare=self.proxies.prepare,
        )
        self.own_figures: Callable[[], bytes] = bytes
        """The page of `/metrics`; empty while there are none."""


async def _build(
    client: Client, parts: _Parts, roles: frozenset[str], captures: Captures | None
) -> list[Worker]:
    workers: list[Worker] = []
    if captures is not None:
        await _release_stale_attempts(client, captures)
        workers += _recorder(client, parts, captures)
    if "control" in roles:
        workers.append(_control(client, parts))
    if "processor" in roles:
        workers.append(await _processor(client, parts))
    return workers


# ---- roles
# Each loads what it needs itself: a recorder that was killed has to be back before the playlist has
# moved on, and an idle process should be small.


def _control(client: Client, parts: _Parts) -> Worker:
    from activities.catalog import Catalog
    from activities.notify import Notify
    from activities.streams import Streams
    from streamvault.notify.targets import Targets
    from workflows.deliver_notification import DeliverNotification
    from workflows.probe_source import ProbeSource
    from workflows.process_recording import ProcessRecording
    from workflows.record_stream import RecordStream

    settings = parts.settings
    streams = Streams(parts.db, parts.sources, settings.end_grace_s)
    catalog = Catalog(parts.db)
    notify = Notify(parts.db, Targets(settings.notify_urls))
    return _worker(
        client,
        CONTROL_QUEUE,
        [
            streams.probe,
            streams.detect,
            catalog.set_status,
            catalog.set_step,
            catalog.note_channel,
            catalog.can_resume,
            notify.announce,
            notify.deliver,
        ],
        workflows=[RecordStream, ProcessRecording, ProbeSource, DeliverNotification],
        slots=CONTROL_SLOTS,
    )


async def _detect(client: Client, parts: _Parts, stop: asyncio.Event) -> None:
    """Find streams. While nobody is followed nothing of it is loaded or polled."""
    while not await _somebody_is_followed(parts):
        if await _stops_within(stop, FOLLOWED_LOOK_S):
            return
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_detection(client, parts, stack))
        while not await _watches_started(client, parts):
            if await _stops_within(stop, CONNECT_PAUSE_S):
                return
        await stop.wait()


def _check_key(settings: Settings) -> None:
    """Before anything says that all is well. Raises SettingsError."""
    from streamvault.secrets import load_keyring

    load_keyring(settings)


async def _somebody_is_followed(parts: _Parts) -> bool:
    """A Twitch application counts too: somebody may want to sign in."""
    if parts.settings.twitch_client_id:
        return True
    try:
        async with parts.db.begin() as session:
            return await streamers.is_any_enabled(session)
    except DependencyUnavailable:
        return False


async def _watches_started(client: Client, parts: _Parts) -> bool:
    """What runs for ever, once in the whole installation."""
    from activities.eventsub.state import say_not_set_up
    from activities.schedules import ensure_schedules
    from activities.watches import ensure_watches

    try:
        await ensure_watches(client, parts.settings)
        await ensure_schedules(client, parts.settings)
        if not parts.settings.twitch_client_id:
            await say_not_set_up(parts.db)
    except DependencyUnavailable as error:
        log.warning("detection not started yet", extra={"why": error.one_line})
        return False
    return True


def _detection(client: Client, parts: _Parts, stack: AsyncExitStack) -> Worker:
    """What it takes to speak with Twitch is loaded for those who have an application there."""
    from prometheus_client import CollectorRegistry, generate_latest

    from activities.detection import Detection
    from activities.following import Following
    from activities.polling import Polling
    from streamvault.metrics.detection import DetectionFigures

    settings, db, registry = parts.settings, parts.db, CollectorRegistry()
    parts.own_figures = lambda: generate_latest(registry)
    access = _open_twitch(parts, registry, stack)

    async def twitch() -> TwitchAccess | None:
        return access

    figures = DetectionFigures(registry)
    detection = Detection(db, client, parts.sources, settings.end_grace_s, figures)
    following = Following(db, twitch)
    polling = Polling(db, detection, settings.poll_interval_s, twitch, following.complete_profiles)
    activities: list[Callable[..., Any]] = [polling.detect_live]
    if access is not None:
        activities += _twitch_activities(client, parts, registry, access, detection)
    return _worker(
        client,
        DETECT_QUEUE,
        activities,
        workflows=_detection_workflows(settings),
        slots=DETECT_SLOTS,
    )


def _open_twitch(
    parts: _Parts, registry: CollectorRegistry, stack: AsyncExitStack
) -> TwitchAccess | None:
    if not parts.settings.twitch_client_id:
        return None
    from activities.twitch_access import TwitchAccess
    from streamvault.metrics.system import PREFIX
    from streamvault.metrics.twitch import TwitchFigures

    access = TwitchAccess.open(parts.settings, parts.db, TwitchFigures(registry, PREFIX))
    stack.push_async_callback(access.close)
    return access


def _twitch_activities(
    client: Client,
    parts: _Parts,
    registry: CollectorRegistry,
    access: TwitchAccess,
    detection: Detection,
) -> list[Callable[..., Any]]:
    from activities.accounts import Accounts
    from activities.eventsub.state import SubscriptionCheck
    from activities.eventsub.watch import EventSub, Figures
    from activities.inbox import Inbox
    from activities.pictures import Pictures
    from streamvault.metrics.eventsub import EventSubFigures
    from streamvault.metrics.system import PREFIX
    from streamvault.metrics.websocket import SocketFigures, SubscriptionFigures

    async def twitch() -> TwitchAccess | None:
        return access

    db = parts.db
    figures = Figures(
        EventSubFigures(registry, PREFIX),
        SocketFigures(registry, PREFIX),
        SubscriptionFigures(registry, PREFIX),
    )
    eventsub = EventSub(access, detection, figures)
    accounts = Accounts(db, twitch)
    folder = parts.settings.data_dir / "images"
    pictures = Pictures(db, folder, twitch, parts.settings.ca_bundle)
    return [
        Inbox(db, detection, SubscriptionCheck(client)).work_off,
        eventsub.listen,
        eventsub.reconcile,
        accounts.await_sign_in,
        accounts.validate_tokens,
        pictures.refresh,
    ]


def _detection_workflows(settings: Settings) -> list[type]:
    from workflows.detect_live import DetectLive

    if not settings.twitch_client_id:
        return [DetectLive]
    from workflows.housekeeping import CheckTokens, ConnectTwitch, RefreshPictures
    from workflows.keep_eventsub import CheckSubscriptions, KeepEventSub
    from workflows.work_off_inbox import WorkOffInbox

    return [
        *(DetectLive, WorkOffInbox, KeepEventSub, CheckSubscriptions),
        *(CheckTokens, ConnectTwitch, RefreshPictures),
    ]


def _recorder(client: Client, parts: _Parts, captures: Captures) -> list[Worker]:
    from activities.recording import Recording

    recording = Recording(
        db=parts.db,
        captures=captures,
        sources=parts.sources,
        library=parts.settings.library,
        host_id=parts.host_id,
        look_every_s=parts.settings.poll_interval_s,
    )
    return [
        _worker(client, RECORD_QUEUE, [recording.claim], slots=RECORDER_SLOTS),
        _worker(
            client,
            host_queue(parts.host_id),
            [recording.record, recording.nudge, recording.await_room, recording.seal],
            slots=RECORDER_SLOTS,
        ),
    ]


async def _processor(client: Client, parts: _Parts) -> Worker:
    from activities.media import Media
    from streamvault.media.ffmpeg import find_ffmpeg, self_test

    ffmpeg = find_ffmpeg(parts.settings.ffmpeg)
    await self_test(ffmpeg)
    media = Media(parts.db, parts.settings.library, ffmpeg)
    return _worker(
        client,
        media_queue(parts.host_id),
        [media.remux, media.thumbnails, media.chapters, media.sidecars],
        slots=MEDIA_SLOTS,
    )


def _worker(
    client: Client,
    queue: str,
    activities: list[Callable[..., Any]],
    *,
    slots: int,
    workflows: Sequence[type] = (),
) -> Worker:
    return Worker(
        client,
        task_queue=queue,
        workflows=workflows,
        activities=activities,
        workflow_runner=WORKFLOW_RUNNER,
        interceptors=[TranslateErrors()],
        max_concurrent_activities=slots,
        graceful_shutdown_timeout=DRAIN_TIME,
        max_heartbeat_throttle_interval=BEAT,
        default_heartbeat_throttle_interval=BEAT,
    )


# ---- captures


async def _resume_captures(parts: _Parts, stack: AsyncExitStack) -> Captures:
    """Go on with every unfinished capture, before anything that could make it wait."""
    from streamvault.hls.captures import Captures
    from streamvault.hls.fetch import Fetcher

    settings = parts.settings
    fetcher = Fetcher(settings.ca_bundle, settings.data_dir / "run")
    stack.push_async_callback(fetcher.aclose)
    captures = Captures(
        state_dir=settings.data_dir / "captures",
        resolve=parts.sources.resolve,
        open_reader=parts.sources.open_reader,
        fetcher=fetcher,
        stream_of=parts.sources.stream_of,
        routes=parts.proxies.pool,
    )
    stack.push_async_callback(captures.drain_all)
    for capture in await captures.resume_all():
        log.info("capture resumed", extra={"recording_id": capture.order.recording_id})
    return captures


async def _release_stale_attempts(client: Client, captures: Captures) -> None:
    """Fail the attempts that died with the process before this one, so that Temporal sends their
    successors at once and not after a heartbeat time-out."""
    for recording_id, token in captures.stale_attempts().items():
        handle = client.get_async_activity_handle(task_token=base64.b64decode(token))
        try:
            await handle.fail(ApplicationError("the recorder process restarted"))
        except RPCError as error:
            # Timed out already, or the workflow is gone.
            log.info(
                "stale attempt was gone",
                extra={"recording_id": recording_id, "why": error.status.name},
            )


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


async def _show_figures(parts: _Parts, stack: AsyncExitStack) -> int:
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
        if await _stops_within(stop, CONNECT_PAUSE_S):
            raise SystemExit(0)


async def _stops_within(stop: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return False
    return True


class _ready_file:
    """`DATA_DIR/run/worker-<roles>.ready` holds our pid while we poll; the supervisor looks."""

    def __init__(self, data_dir: Path, roles: frozenset[str]) -> None:
        self.path = data_dir / "run" / f"worker-{'-'.join(sorted(roles))}.ready"

    def __enter__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(f"{os.getpid()}\n")
        log.info("worker ready", extra={"ready_file": self.path.name})

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)
