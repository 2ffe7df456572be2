"""Finding streams: the poll, EventSub, and what it takes to speak with Twitch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from temporalio.client import Client
from temporalio.worker import Worker

from roles.parts import Parts, new_worker, stops_within
from streamvault.contracts import DETECT_QUEUE
from streamvault.db import streamers
from streamvault.errors import DependencyUnavailable
from streamvault.settings import Settings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from activities.detection import Detection
    from activities.twitch_access import TwitchAccess

log = logging.getLogger(__name__)

DETECT_SLOTS = 20
AGAIN_S = 1.0
LOOK_AFTER_S = 20.0
FOLLOWED_LOOK_S = 3.0  # until somebody is followed for the first time


async def detect(client: Client, parts: Parts, stop: asyncio.Event) -> None:
    """Find streams. While nobody is followed nothing of it is loaded or polled.

    Raises SettingsError."""
    if parts.settings.twitch_client_id:
        check_key(parts.settings)
    while not await _somebody_is_followed(parts):
        if await stops_within(stop, FOLLOWED_LOOK_S):
            return
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_detection(client, parts, stack))
        first = True
        # Again and again: Temporal may lose what it knows.
        while not stop.is_set():
            started = await _watches_started(client, parts, first)
            first = first and not started
            await stops_within(stop, LOOK_AFTER_S if started else AGAIN_S)


def check_key(settings: Settings) -> None:
    """Before anything says that all is well. Raises SettingsError."""
    from streamvault.secrets import load_keyring

    load_keyring(settings)


async def _somebody_is_followed(parts: Parts) -> bool:
    """A Twitch application counts too: somebody may want to sign in."""
    if parts.settings.twitch_client_id:
        return True
    try:
        async with parts.db.begin() as session:
            return await streamers.is_any_enabled(session)
    except DependencyUnavailable:
        return False


async def _watches_started(client: Client, parts: Parts, first: bool) -> bool:
    """What runs for ever, once in the whole installation."""
    from activities.eventsub.state import say_not_set_up
    from activities.schedules import ensure_schedules
    from activities.watches import ensure_watches

    try:
        await ensure_watches(client, parts.settings)
        await ensure_schedules(client, parts.settings, renew=first)
        if first and not parts.settings.twitch_client_id:
            await say_not_set_up(parts.db)
    except DependencyUnavailable as error:
        log.warning("detection not started yet", extra={"why": error.one_line})
        return False
    return True


def _detection(client: Client, parts: Parts, stack: AsyncExitStack) -> Worker:
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
    return new_worker(
        client,
        DETECT_QUEUE,
        activities,
        workflows=_detection_workflows(settings),
        slots=DETECT_SLOTS,
    )


def _open_twitch(
    parts: Parts, registry: CollectorRegistry, stack: AsyncExitStack
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
    parts: Parts,
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
