"""The doctor: looks at everything that StreamVault needs, and never fails itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError

from activities import checks
from activities.checks import Check, CheckState
from streamvault.contracts import CONTROL_QUEUE, DETECT_QUEUE, RECORD_QUEUE
from streamvault.db import credentials, facts, health, proxies, streamers
from streamvault.db.models import Fact
from streamvault.db.session import Database
from streamvault.errors import DependencyUnavailable, StreamVaultError
from streamvault.hls.room import Room
from streamvault.settings import Settings

KEPT_S = 5.0
LIMIT_S = 3.0  # of one look; a part that is well answers in a few milliseconds
RPC_LIMIT = timedelta(seconds=LIMIT_S)
# A worker asks again at least once a minute. The server remembers those that are gone for five.
POLLED_WITHIN = timedelta(seconds=75)
VITAL = frozenset({"database", "temporal", "workers"})
QUEUES = {
    CONTROL_QUEUE: TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    RECORD_QUEUE: TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
    DETECT_QUEUE: TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
}


@dataclass(frozen=True, slots=True)
class Finding:
    check: Check
    since: datetime
    """When this process first saw the check in this state."""


@dataclass(frozen=True, slots=True)
class Health:
    status: str
    """`ok`, `degraded` or `down`."""
    findings: Sequence[Finding]


class Checkup:
    """`temporal` answers a client, `circuits` the state of this process's own circuit breakers."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        temporal: Callable[[], Awaitable[Client]],
        circuits: Callable[[], Mapping[str, Mapping[str, Any]]] = dict,
    ) -> None:
        self._settings = settings
        self._db = db
        self._temporal = temporal
        self._circuits = circuits
        self._looking = asyncio.Lock()
        self._fresh_until = 0.0
        self._since: dict[str, tuple[CheckState, datetime]] = {}
        self._health = Health("down", ())

    async def health(self) -> Health:
        """At most a few seconds old."""
        async with self._looking:
            if monotonic() >= self._fresh_until:
                found = await self._look()
                self._health = Health(
                    checks.overall(found, VITAL), [self._finding(check) for check in found]
                )
                self._fresh_until = monotonic() + KEPT_S
        return self._health

    async def _look(self) -> list[Check]:
        looks = (
            _limited(("database",), self._look_at_database),
            _limited(("temporal", "workers"), self._look_at_temporal),
            _limited(("storage",), self._look_at_storage),
            _limited(("detection",), self._look_at_records),
        )
        return [check for found in await asyncio.gather(*looks) for check in found]

    def _finding(self, check: Check) -> Finding:
        state, since = self._since.get(check.name, (None, datetime.now(UTC)))
        if state is not check.state:
            since = datetime.now(UTC)
        self._since[check.name] = (check.state, since)
        return Finding(check, since)

    # ---- each look

    async def _look_at_database(self) -> list[Check]:
        await self._db.ping()
        return [Check("database", checks.OK, "answers")]

    async def _look_at_temporal(self) -> list[Check]:
        client = await self._temporal()
        if not await client.service_client.check_health(timeout=RPC_LIMIT):
            return _all_in_error(("temporal", "workers"), "Temporal says that it is not well")
        queues = [queue for queue in QUEUES if queue != DETECT_QUEUE or await self._detects()]
        counted = await asyncio.gather(*(_pollers(client, queue) for queue in queues))
        polled = dict(zip(queues, counted, strict=True))
        return [Check("temporal", checks.OK, "answers"), checks.of_workers(polled)]

    async def _detects(self) -> bool:
        """Whether streams should be looked for: while nobody is followed there is nothing to do."""
        if not self._settings.detection or self._settings.twitch_client_id:
            return self._settings.detection
        try:
            async with self._db.begin() as session:
                return await streamers.is_any_enabled(session)
        except DependencyUnavailable:
            # Its own check says so.
            return False

    async def _look_at_storage(self) -> list[Check]:
        libraries = self._settings.libraries
        rooms = [await asyncio.to_thread(Room.at, library) for library in libraries]
        # Recordings go on wherever there is room.
        return [checks.of_storage(max(rooms, key=lambda room: room.free_bytes))]

    async def _look_at_records(self) -> list[Check]:
        async with self._db.begin() as session:
            known = await facts.all_facts(session)
            waiting = await health.count_waiting(session)
            stored = await credentials.describe_all(session)
            ways = await proxies.list_proxies(session)
        now = datetime.now(UTC)
        found = [
            checks.of_watchdog(known.get(facts.WATCHDOG), now),
            checks.of_inbox(waiting, now),
            checks.of_dead_letters(waiting),
            checks.of_browser_token(stored.get("browser_token"), now),
            checks.of_proxies(ways),
        ]
        with_twitch = bool(self._settings.twitch_client_id)
        if self._settings.detection and not await self._detects():
            found.append(Check("poll", checks.OFF, "nobody is followed"))
        elif self._settings.detection:
            interval_s = self._settings.poll_interval_s
            poll = known.get(facts.POLL)
            found.append(checks.of_poll(poll, interval_s, now, asks_helix=with_twitch))
        if not with_twitch:
            return [*found, *checks.without_twitch()]
        eventsub = known.get(facts.EVENTSUB)
        return [
            *found,
            checks.of_circuits(_circuits(known.get(facts.CIRCUITS), self._circuits(), now)),
            checks.of_app_token(stored.get("app_token"), now),
            checks.of_account(stored.get("user_token"), now),
            checks.of_eventsub(eventsub),
            checks.of_subscriptions(eventsub),
            checks.of_clock(known.get(facts.CLOCK)),
        ]


async def _limited(names: Sequence[str], look: Callable[[], Awaitable[list[Check]]]) -> list[Check]:
    """What the look finds; the same names in error when it finds nothing in time."""
    try:
        async with asyncio.timeout(LIMIT_S):
            return await look()
    except TimeoutError:
        return _all_in_error(names, f"no answer within {LIMIT_S:.0f} s")
    except StreamVaultError as error:
        return _all_in_error(names, str(error), error.hint)
    except RPCError as error:
        return _all_in_error(names, f"Temporal answers {error.status.name.lower()}")
    except SQLAlchemyError as error:
        return _all_in_error(names, f"the database refuses: {type(error).__name__}")
    except OSError as error:
        return _all_in_error(names, error.strerror or type(error).__name__)


def _all_in_error(names: Sequence[str], note: str, hint: str = "") -> list[Check]:
    return [Check(name, checks.ERROR, note, hint) for name in names]


async def _pollers(client: Client, queue: str) -> int:
    """How many workers have asked for work lately."""
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=QUEUES[queue],
        ),
        timeout=RPC_LIMIT,
    )
    latest = datetime.now(UTC) - POLLED_WITHIN
    return sum(
        poller.last_access_time.ToDatetime(tzinfo=UTC) >= latest for poller in answer.pollers
    )


def _circuits(
    fact: Fact | None, own: Mapping[str, Mapping[str, Any]], now: datetime
) -> dict[str, Mapping[str, Any]]:
    """Of the worker, and where this process fares worse of this one."""
    told = fact.value if fact and now - fact.updated_at < checks.STALE else {}
    worse = {name: report for name, report in own.items() if report["state"] != "closed"}
    return {**told, **worse}
