"""From a stored message to a word to detection, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text
from temporalio.testing import ActivityEnvironment

from activities import inbox as activity_module
from activities.inbox import Inbox
from streamvault.contracts import Watched
from streamvault.db import dead_letters, inbox, streamers
from streamvault.db.inbox import NewMessage
from streamvault.db.models import DeadLetter, InboxMessage, Streamer, Subscription
from streamvault.db.session import Database
from streamvault.errors import (
    DependencyUnavailable,
    InvalidInput,
    SourceUnavailable,
    TwitchUnavailable,
)
from streamvault.source import News
from streamvault.twitch.eventsub import parse_message

# Only a test that fails waits this long.
PATIENCE_S = 60
STARTED_AT = datetime(2026, 3, 11, 10, 11, 12, tzinfo=UTC)


@dataclass
class Heard:
    """Detection, as far as the inbox can see: it is told things, and may fail."""

    told: list[tuple[Any, ...]] = field(default_factory=list)
    answers: list[str | Exception] = field(default_factory=list)
    """One per call; then `started`."""
    blocked: dict[str, asyncio.Event] = field(default_factory=dict)
    """By stream id: what has to happen first."""
    checks: int = 0

    async def found_live(self, news: News) -> str:
        self.told.append(("live", news.stream_id))
        self.news = news
        if news.stream_id in self.blocked:
            await self.blocked[news.stream_id].wait()
        if news.stream_id.startswith("poison"):
            raise InvalidInput("this one never works")
        answer = self.answers.pop(0) if self.answers else "started"
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def heard_offline(self, streamer_id: str, told_by: str, at: datetime) -> None:
        self.told.append(("offline", streamer_id, told_by, at))

    async def heard_channel(
        self,
        streamer_id: str,
        *,
        title: str,
        category: str,
        category_id: str,
        at: datetime,
        told_by: str,
    ) -> None:
        self.told.append(("channel", streamer_id, title, category, category_id, at, told_by))

    async def check_soon(self) -> None:
        self.checks += 1

    def streams(self) -> list[str]:
        return [what[1] for what in self.told if what[0] == "live"]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def alice(db: Database) -> Streamer:
    async with db.begin() as session:
        new = streamers.NewStreamer(
            "twitch", "alice", "Alice", "https://www.twitch.tv/alice", user_id="1337"
        )
        streamer, _ = await streamers.add_streamer(session, new)
    return streamer


def message(
    type_: str = "stream.online",
    *,
    id_: str = "",
    age_s: float = 0,
    source: str = "webhook",
    kind: str = "notification",
    status: str = "enabled",
    **event: Any,
) -> NewMessage:
    """As Twitch sends it, through the same parser."""
    about = {"id": "sub-1", "type": type_, "status": status, "condition": {}}
    said: dict[str, Any] = {"subscription": about}
    if kind == "notification":
        known = {"id": "9001", "type": "live", "started_at": STARTED_AT.isoformat()}
        who = {"broadcaster_user_id": "1337", "broadcaster_user_login": "alice"}
        said["event"] = {**who, **(known if type_ == "stream.online" else {}), **event}
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    parsed = parse_message(kind, id_ or f"m-{event.get('id', '')}-{type_}", at.isoformat(), said)
    assert parsed is not None
    return NewMessage(
        parsed.id,
        source,
        parsed.kind,
        parsed.type,
        parsed.subscription_id,
        parsed.sent_at,
        parsed.payload,
    )


async def store(db: Database, *messages: NewMessage) -> None:
    async with db.begin() as session:
        await inbox.store_all(session, messages)


async def rows(db: Database) -> list[InboxMessage]:
    async with db.begin() as session:
        return list(await session.scalars(select(InboxMessage).order_by(InboxMessage.id)))


@asynccontextmanager
async def working(db: Database, heard: Heard) -> AsyncIterator[asyncio.Task[Watched]]:
    """A worker that works the inbox off until it is shut down."""
    environment = ActivityEnvironment()
    activity = Inbox(db, heard, heard)
    task = asyncio.create_task(environment.run(activity.work_off))
    try:
        yield task
    finally:
        environment.worker_shutdown()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait({task})
    if not task.cancelled():
        task.result()


async def until(happened: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await happened():
                return
            await asyncio.sleep(0.02)


async def until_state(db: Database, state: str, count: int = 1) -> list[InboxMessage]:
    async def there() -> bool:
        return [row.state for row in await rows(db)].count(state) >= count

    await until(there)
    return [row for row in await rows(db) if row.state == state]


async def until_noted(db: Database, note: str, attempts: int = 0) -> InboxMessage:
    async def there() -> bool:
        return any((row.error, row.attempts) == (note, attempts) for row in await rows(db))

    await until(there)
    return next(row for row in await rows(db) if row.error == note)


async def make_due(db: Database) -> None:
    """What was put off becomes due: here the test is the clock."""
    async with db.begin() as session:
        await session.execute(text("UPDATE inbox SET next_at = now()"))
        await inbox.wake(session)


async def database_time(db: Database) -> datetime:
    async with db.begin() as session:
        now: datetime | None = await session.scalar(select(func.clock_timestamp()))
    assert now is not None
    return now


# ---- what is passed on


async def test_a_stream_that_goes_online_is_told_with_all_that_is_known(
    db: Database, heard: Heard, alice: Streamer
) -> None:
    async with working(db, heard):
        await store(db, message(source="conduit"))
        await until_state(db, "done")
    assert heard.streams() == ["9001"]
    assert heard.news == News(str(alice.id), "conduit", stream_id="9001", started_at=STARTED_AT)


async def test_offline_and_changes_are_told_with_their_time(
    db: Database, heard: Heard, alice: Streamer
) -> None:
    offline = message("stream.offline")
    change = message("channel.update", title="Any%", category_id="12453", category_name="Speedruns")
    async with working(db, heard):
        await store(db, offline, change)
        await until_state(db, "done", 2)
    assert set(heard.told) == {
        ("offline", str(alice.id), "webhook", offline.sent_at),
        ("channel", str(alice.id), "Any%", "Speedruns", "12453", change.sent_at, "webhook"),
    }


@pytest.mark.usefixtures("alice")
@pytest.mark.parametrize(
    "quiet",
    [
        message(type="rerun"),
        message(type="premiere"),
        message(broadcaster_user_id="2"),
        message("stream.offline", broadcaster_user_id="2"),
        message("channel.raid"),
    ],
    ids=["rerun", "premiere", "online of a stranger", "offline of a stranger", "unknown type"],
)
async def test_what_is_none_of_our_business_is_done_without_a_word(
    db: Database, heard: Heard, quiet: NewMessage
) -> None:
    async with working(db, heard):
        await store(db, quiet)
        await until_state(db, "done")
    assert heard.told == []


async def test_a_revocation_is_noted_and_has_the_subscriptions_checked(
    db: Database, heard: Heard
) -> None:
    async with db.begin() as session:
        session.add(
            Subscription(
                user_id="1337", type="stream.online", subscription_id="sub-1", status="enabled"
            )
        )
    async with working(db, heard):
        await store(db, message(kind="revocation", status="authorization_revoked"))
        await until_state(db, "done")
    async with db.begin() as session:
        row = (await session.scalars(select(Subscription))).one()
    assert (row.status, heard.checks) == ("authorization_revoked", 1)


# ---- Twitch's services agree late


@pytest.mark.usefixtures("alice")
async def test_a_young_stream_that_is_not_live_yet_is_asked_for_again(
    db: Database, heard: Heard
) -> None:
    heard.answers = ["not_live", "not_live", "started"]
    async with working(db, heard):
        await store(db, message(age_s=1))
        row = await until_noted(db, "not live yet")
        assert row.next_at - row.received_at >= timedelta(seconds=3)
        for asked in (2, 3):
            await make_due(db)
            await until(lambda asked=asked: _is(len(heard.streams()) == asked))
        [row] = await until_state(db, "done")
    assert (heard.streams(), row.attempts) == (["9001"] * 3, 0)


async def _is(value: bool) -> bool:
    return value


@pytest.mark.usefixtures("alice")
async def test_after_two_minutes_it_is_believed_not_to_be_live(db: Database, heard: Heard) -> None:
    heard.answers = ["not_live", "not_live"]
    async with working(db, heard):
        await store(db, message(id="old", age_s=121), message(id="young", age_s=60))
        await until_noted(db, "not live yet")
        await until_state(db, "done")
    assert [row.state for row in await rows(db)] == ["done", "waiting"]


# ---- what fails


@pytest.mark.usefixtures("alice")
async def test_what_fails_waits_twice_as_long_each_time_and_then_needs_a_person(
    db: Database, heard: Heard
) -> None:
    async with working(db, heard):
        before = await database_time(db)
        await store(db, message(id_="m-1", id="poison"))
        for attempt, wait_s in enumerate((1, 2, 4, 8), 1):
            row = await until_noted(db, "this one never works", attempt)
            after = await database_time(db)
            assert row.next_at - after <= timedelta(seconds=wait_s) <= row.next_at - before
            assert row.state == "waiting"
            before = await database_time(db)
            await make_due(db)
        [row] = await until_state(db, "dead")
    assert (heard.streams(), row.attempts) == (["poison"] * 5, 5)
    async with db.begin() as session:
        letter = (await session.scalars(select(DeadLetter))).one()
    assert (letter.kind, letter.title) == ("inbox", "stream.online of alice")
    assert (letter.error, letter.attempts) == ("this one never works", 5)
    assert dead_letters.key_of(letter) == "m-1"


@pytest.mark.usefixtures("alice")
@pytest.mark.parametrize(
    "away",
    [
        DependencyUnavailable("the database cannot be reached"),
        TwitchUnavailable("no answer"),
        SourceUnavailable("no answer"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_while_a_dependency_is_away_a_message_has_ten_minutes(
    db: Database, heard: Heard, away: Exception
) -> None:
    heard.answers = [away] * 24
    waited_s = 0.0
    async with working(db, heard):
        await store(db, message())
        for attempt in range(1, 25):
            row = await until_noted(db, str(away), attempt)
            waited_s += min(2 ** (attempt - 1), 30)
            assert row.state == "waiting"
            await make_due(db)
        await until_state(db, "done")
    # The sum of the waits that were skipped here.
    assert 600 <= waited_s < 660


@pytest.mark.usefixtures("alice")
async def test_an_error_that_nobody_expected_is_one_messages_own(
    db: Database, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    heard.answers = [ZeroDivisionError("a bug")]
    async with working(db, heard):
        await store(db, message(id="1"))
        row = await until_noted(
            db, "an error that StreamVault did not expect: ZeroDivisionError", 1
        )
        await store(db, message(id="2"))
        await until_state(db, "done")
        await make_due(db)
        await until_state(db, "done", 2)
    assert row.attempts == 1
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.usefixtures("alice")
async def test_a_message_that_hangs_is_given_up_for_now(
    db: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity_module, "MESSAGE_WITHIN_S", 0.1)
    heard.blocked["9001"] = asyncio.Event()
    async with working(db, heard):
        await store(db, message())
        await until_noted(db, "not done within 0 s", 1)
        heard.blocked["9001"].set()
        await make_due(db)
        await until_state(db, "done")


@pytest.mark.usefixtures("alice")
async def test_a_dead_message_that_is_revived_is_worked_off(db: Database, heard: Heard) -> None:
    heard.answers = [InvalidInput("not yet")] * 5
    async with working(db, heard):
        await store(db, message(id_="m-1"))
        for attempt in range(1, 5):
            await until_noted(db, "not yet", attempt)
            await make_due(db)
        await until_state(db, "dead")
        async with db.begin() as session:
            assert await inbox.revive(session, "m-1")
        await until_state(db, "done")
    assert len(heard.streams()) == 6


# ---- one does not delay the other


@pytest.mark.usefixtures("alice")
async def test_one_slow_message_does_not_delay_the_others(db: Database, heard: Heard) -> None:
    heard.blocked["slow"] = asyncio.Event()
    async with working(db, heard):
        await store(db, message(id="slow"), *(message(id=str(number)) for number in range(60)))
        await until_state(db, "done", 60)
        assert [row.state for row in await rows(db)].count("waiting") == 1
        heard.blocked["slow"].set()
        await until_state(db, "done", 61)
    assert Counter(heard.streams()).most_common(1)[0][1] == 1


@pytest.mark.usefixtures("alice")
async def test_a_thousand_messages_that_failed_do_not_delay_good_ones(
    db: Database, heard: Heard
) -> None:
    """Even when every one of them hangs: they have only half of the places."""
    poison = [message(id=f"poison-{number}") for number in range(1_000)]
    stop = asyncio.Event()
    heard.blocked = {f"poison-{number}": stop for number in range(1_000)}
    await store(db, *poison)
    async with db.begin() as session:
        await session.execute(
            text("UPDATE inbox SET attempts = 1, next_at = now() - interval '1 minute'")
        )
    async with working(db, heard) as work:
        await until(lambda: _is(len(heard.streams()) == 10))
        for number in range(30):
            await store(db, message(id=f"good-{number}"))
        await until_state(db, "done", 30)
        assert len([id_ for id_ in heard.streams() if id_.startswith("poison")]) == 10
        assert not work.done()
        stop.set()


# ---- workers come and go


@pytest.mark.usefixtures("alice")
async def test_two_workers_tell_each_message_once(db: Database, heard: Heard) -> None:
    await store(db, *(message(id=str(number)) for number in range(200)))
    async with working(db, heard), working(db, heard):
        await until_state(db, "done", 200)
    assert Counter(heard.streams()) == {str(number): 1 for number in range(200)}


@pytest.mark.usefixtures("alice")
async def test_what_was_stored_while_no_worker_ran_is_worked_off_by_the_next(
    db: Database, heard: Heard
) -> None:
    await store(db, message())
    async with working(db, heard):
        await until_state(db, "done")
    assert heard.streams() == ["9001"]


@pytest.mark.usefixtures("alice")
async def test_what_a_worker_had_in_hand_when_it_died_is_worked_off_by_the_next(
    db: Database, heard: Heard
) -> None:
    """A killed worker leaves nothing but its lease: here it is taken as by such a worker."""
    await store(db, message())
    async with db.begin() as session:
        [taken] = await inbox.claim(session, limit=1, again=False, lease_s=1)
    assert taken.message_id == "m--stream.online"
    async with working(db, heard):
        await until_state(db, "done")
    assert heard.streams() == ["9001"]


@pytest.mark.usefixtures("alice")
async def test_a_lease_is_kept_for_as_long_as_the_work_takes(
    db: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity_module, "LEASE_S", 5.0)
    monkeypatch.setattr(activity_module, "HOLD_EVERY_S", 0.2)
    monkeypatch.setattr(activity_module, "LOOK_EVERY_S", 0.2)
    heard.blocked["9001"] = asyncio.Event()
    async with working(db, heard), working(db, heard):
        await store(db, message())
        await until(lambda: _is(bool(heard.streams())))
        taken_at = (await rows(db))[0].next_at

        async def held_for_longer() -> bool:
            return (await rows(db))[0].next_at - taken_at > timedelta(seconds=5)

        await until(held_for_longer)
        heard.blocked["9001"].set()
        await until_state(db, "done")
    assert heard.streams() == ["9001"]


@pytest.mark.usefixtures("alice")
async def test_a_worker_that_shuts_down_finishes_what_it_has_in_hand(
    db: Database, heard: Heard
) -> None:
    heard.blocked["9001"] = asyncio.Event()
    environment = ActivityEnvironment()
    work = asyncio.create_task(environment.run(Inbox(db, heard).work_off))
    await store(db, message())
    await until(lambda: _is(bool(heard.streams())))
    environment.worker_shutdown()
    await asyncio.wait({work}, timeout=0.1)
    assert not work.done()
    heard.blocked["9001"].set()
    async with asyncio.timeout(PATIENCE_S):
        assert (await work).rounds >= 1
    assert [row.state for row in await rows(db)] == ["done"]


@pytest.mark.usefixtures("alice")
async def test_a_cancelled_worker_lets_go(db: Database, heard: Heard) -> None:
    heard.blocked["9001"] = asyncio.Event()
    environment = ActivityEnvironment()
    work = asyncio.create_task(environment.run(Inbox(db, heard).work_off))
    await store(db, message())
    await until(lambda: _is(bool(heard.streams())))
    environment.cancel()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait({work})
    assert work.cancelled()
    assert [row.state for row in await rows(db)] == ["waiting"]


@pytest.mark.usefixtures("alice")
async def test_the_activity_ends_by_itself_to_be_started_anew(
    db: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity_module, "LASTS_S", 0.0)
    assert await ActivityEnvironment().run(Inbox(db, heard).work_off) == Watched(0)


# ---- the database


@pytest.mark.usefixtures("alice")
async def test_a_notification_wakes_the_worker_before_its_next_look(
    db: Database, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity_module, "LOOK_EVERY_S", 2.0 * PATIENCE_S)
    async with working(db, heard):
        for number in range(3):
            await store(db, message(id=str(number)))
            await until_state(db, "done", number + 1)


@pytest.mark.usefixtures("alice")
async def test_without_being_told_it_looks(db: Database, heard: Heard) -> None:
    async with working(db, heard):
        await store(db, message(id="1"))
        await until_state(db, "done")
        async with db.begin() as session:
            stored = message(id="2")
            session.add(
                InboxMessage(
                    message_id=stored.message_id,
                    source=stored.source,
                    kind=stored.kind,
                    type=stored.type,
                    sent_at=stored.sent_at,
                    payload=stored.payload,
                )
            )
        await until_state(db, "done", 2)


@pytest.mark.usefixtures("alice")
async def test_lost_connections_stop_nothing(db: Database, heard: Heard) -> None:
    async with working(db, heard):
        await store(db, message(id="1"))
        await until_state(db, "done")
        async with db.begin() as session:
            await session.execute(
                text(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        await store(db, message(id="2"))
        await until_state(db, "done", 2)


@pytest.mark.usefixtures("alice")
async def test_what_was_done_a_day_ago_is_deleted(db: Database, heard: Heard) -> None:
    await store(db, message(id="1"), message(id="2"))
    async with db.begin() as session:
        await session.execute(
            text(
                "UPDATE inbox SET state = 'done', received_at = now() - interval '25 hours'"
                " WHERE message_id LIKE 'm-1%'"
            )
        )
    async with working(db, heard):
        await until_state(db, "done")

        async def one_left() -> bool:
            return len(await rows(db)) == 1

        await until(one_left)
