"""The webhook: who is let in, what is kept, and what every case is answered with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from sqlalchemy import select, text
from starlette.applications import Starlette
from starlette.types import Message as AsgiMessage

from api import eventsub
from api.eventsub import EventSubWebhook
from api.guard import Guard, Rules
from streamvault.db.models import InboxMessage
from streamvault.db.session import Database
from streamvault.errors import DependencyUnavailable, TwitchNotConfigured
from streamvault.metrics.eventsub import EventSubFigures
from streamvault.settings import check_settings

from .conftest import BASE, client_of
from .twitch_messages import SECRET, Post, notification, online, revocation, verification

# An answer within Twitch's "few seconds", however the database is.
ANSWER_S = 3.0


class Door:
    """The webhook behind the guard, with secrets that the test knows."""

    def __init__(self, url: str, **options: Any) -> None:
        self.secrets = [SECRET]
        self.asked = 0
        self.error: Exception | None = None
        self.registry = CollectorRegistry()
        self.webhook = EventSubWebhook(
            url, self.load, EventSubFigures(self.registry, "streamvault_")
        )
        rules = Rules.of(check_settings({"base_url": "https://vault.example"}))
        self.app = Guard(Starlette(routes=[self.webhook.route]), rules)

    async def load(self) -> list[str]:
        self.asked += 1
        if self.error:
            raise self.error
        return self.secrets

    async def post(self, post: Post, **more: Any) -> httpx.Response:
        async with client_of(self.app, BASE) as client:  # type: ignore[arg-type]
            headers = {**post.headers, **more.pop("headers", {})}
            return await client.post("/eventsub", headers=headers, **{"content": post.body, **more})

    def count(self, result: str, type_: str = "other") -> float:
        labels = {"type": type_, "result": result}
        return self.registry.get_sample_value("streamvault_eventsub_messages_total", labels) or 0


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Door]:
    door = Door(url)
    yield door
    await door.webhook.close()


@pytest.fixture
async def door(database_url: str) -> AsyncIterator[Door]:
    async with opened(database_url) as door:
        yield door


@pytest.fixture
async def shut(tmp_path: Path) -> AsyncIterator[Door]:
    """One whose database is away."""
    async with opened(f"postgresql+asyncpg://sv@/sv?host={tmp_path}") as door:
        yield door


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=2, max_overflow=0)
    yield database
    await database.close()


async def rows(db: Database) -> list[InboxMessage]:
    async with db.begin() as session:
        return list(await session.scalars(select(InboxMessage).order_by(InboxMessage.id)))


# ---- what is let in


async def test_a_notification_is_one_waiting_row_and_204(door: Door, db: Database) -> None:
    post = online()
    answer = await door.post(post)
    assert (answer.status_code, answer.content) == (204, b"")
    [row] = await rows(db)
    assert (row.message_id, row.source, row.kind) == (post.id, "webhook", "notification")
    assert (row.type, row.state, row.attempts) == ("stream.online", "waiting", 0)
    assert row.subscription_id == "f1c2a387-161a-49f9-a165-0f21d7a4e1c4"
    assert row.payload["event"]["broadcaster_user_id"] == "1337"
    assert abs((row.received_at - row.sent_at).total_seconds()) < 60
    assert door.count("accepted", "stream.online") == 1
    assert door.registry.get_sample_value("streamvault_eventsub_ack_seconds_count") == 1


async def test_a_challenge_is_answered_as_plain_text_and_not_stored(
    door: Door, db: Database
) -> None:
    answer = await door.post(verification("pogchamp-kappa-360noscope-vohiyo"))
    assert (answer.status_code, answer.text) == (200, "pogchamp-kappa-360noscope-vohiyo")
    assert answer.headers["content-type"].split(";")[0] == "text/plain"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert await rows(db) == []


async def test_a_revocation_is_kept(door: Door, db: Database) -> None:
    assert (await door.post(revocation("user_removed"))).status_code == 204
    [row] = await rows(db)
    assert (row.kind, row.payload["subscription"]["status"]) == ("revocation", "user_removed")
    assert "event" not in row.payload


@pytest.mark.parametrize(
    "post",
    [
        notification("channel.raid", {"from_broadcaster_user_id": "1"}),
        notification("stream.online", {"type": "live"}),
        online().with_(kind="celebration"),
    ],
)
async def test_what_we_do_not_know_is_204_and_no_row(door: Door, db: Database, post: Post) -> None:
    assert (await door.post(post)).status_code == 204
    assert await rows(db) == []
    assert sum(door.count("ignored", type_) for type_ in ("other", "stream.online")) == 1


async def test_the_same_message_five_times_at_once_is_one_row(door: Door, db: Database) -> None:
    post = online()
    answers = await asyncio.gather(*(door.post(post) for _ in range(5)))
    assert [answer.status_code for answer in answers] == [204] * 5
    assert len(await rows(db)) == 1
    assert door.count("accepted", "stream.online") == 1
    assert door.count("duplicate", "stream.online") == 4


async def test_the_id_alone_makes_a_double(door: Door, db: Database) -> None:
    """The official CLI sends the same id with another body; so may Twitch."""
    first = online()
    await door.post(first)
    second = await door.post(online(user_id="7").with_(id=first.id))
    assert second.status_code == 204
    [row] = await rows(db)
    assert row.payload["event"]["broadcaster_user_id"] == "1337"


async def test_many_at_once_are_all_kept(door: Door, db: Database) -> None:
    posts = [online(user_id=str(number)) for number in range(300)]
    answers = await asyncio.gather(*(door.post(post) for post in posts))
    assert {answer.status_code for answer in answers} == {204}
    assert {row.message_id for row in await rows(db)} == {post.id for post in posts}


async def test_what_postgresql_cannot_hold_is_left_out(door: Door, db: Database) -> None:
    event = {"broadcaster_user_id": "1337", "title": "a\0b\ud800c 🎉", "category_name": 1e400}
    assert (await door.post(notification("channel.update", event))).status_code == 204
    [row] = await rows(db)
    assert row.payload["event"]["title"] == "ab?c 🎉"


# ---- who is not


LETTER = online()


@pytest.mark.parametrize(
    ("post", "status", "result"),
    [
        (LETTER.with_(changed={"Signature": None}), 403, "bad_signature"),
        (LETTER.with_(changed={"Signature": ""}), 403, "bad_signature"),
        (LETTER.with_(changed={"Signature": "sha256=abc"}), 403, "bad_signature"),
        (LETTER.with_(changed={"Signature": b"sha256=" + b"\xe9" * 64}), 403, "bad_signature"),
        (LETTER.with_(changed={"Signature": "sha1=" + "a" * 40}), 403, "bad_signature"),
        (LETTER.with_(changed={"Id": "another"}), 403, "bad_signature"),
        (LETTER.with_(changed={"Id": None}), 403, "bad_signature"),
        (LETTER.with_(changed={"Timestamp": None}), 403, "bad_signature"),
        (LETTER.with_(secret="another secret"), 403, "bad_signature"),
        (LETTER.with_(age=timedelta(minutes=10, seconds=1)), 403, "stale"),
        (LETTER.with_(age=timedelta(days=2000)), 403, "stale"),
        (LETTER.with_(age=-timedelta(seconds=33)), 403, "stale"),
        (LETTER.with_(body=b"no JSON"), 400, "malformed"),
        (LETTER.with_(body=b"{}"), 400, "malformed"),
        (LETTER.with_(id="x" * 500), 400, "malformed"),
        (LETTER.with_(kind="revocation"), 400, "malformed"),
        (LETTER.with_(body=b" " * (64 * 1024 + 1)), 413, "malformed"),
    ],
    ids=lambda value: value if isinstance(value, int | str) else "",
)
async def test_a_refusal_has_its_status_and_no_row(
    door: Door, db: Database, post: Post, status: int, result: str
) -> None:
    answer = await door.post(post)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert await rows(db) == []
    assert door.count(result) == 1
    assert door.registry.get_sample_value("streamvault_eventsub_ack_seconds_count") == (
        0 if result == "bad_signature" or status == 413 else 1
    )


@pytest.mark.parametrize("age_s", [590, -25])
async def test_late_and_early_within_bounds_is_let_in(door: Door, age_s: int) -> None:
    assert (await door.post(online().with_(age=timedelta(seconds=age_s)))).status_code == 204


async def test_two_ids_are_none(door: Door) -> None:
    post = online()
    headers = [*post.headers.items(), ("Twitch-Eventsub-Message-Id", post.id)]
    async with client_of(door.app) as client:  # type: ignore[arg-type]
        answer = await client.post("/eventsub", content=post.body, headers=headers)
    assert answer.status_code == 403


async def test_a_body_of_exactly_64_kib_is_read(door: Door, db: Database) -> None:
    post = online()
    padded = post.body + b" " * (64 * 1024 - len(post.body))
    assert (await door.post(post.with_(body=padded))).status_code == 204
    assert len(await rows(db)) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
async def test_only_post_is_answered(door: Door, method: str) -> None:
    async with client_of(door.app) as client:  # type: ignore[arg-type]
        answer = await client.request(method, "/eventsub")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_no_page_rule_holds_for_it_but_the_host_rule_does(door: Door) -> None:
    foreign = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    assert (await door.post(online(), headers=foreign)).status_code == 204
    assert (await door.post(online(), headers={"Host": "vault.example"})).status_code == 204
    assert (await door.post(online(), headers={"Host": "evil.example"})).status_code == 400


async def test_what_is_refused_needs_no_database(shut: Door) -> None:
    for post, status in (
        (online().with_(secret="another secret"), 403),
        (online().with_(age=timedelta(hours=1)), 403),
        (online().with_(body=b"{}"), 400),
        (online().with_(body=b" " * 100_000), 413),
        (verification("x"), 200),
        (notification("channel.raid", {}), 204),
    ):
        assert (await shut.post(post)).status_code == status


# ---- bodies that come in pieces


async def run(door: Door, post: Post, pieces: list[bytes], **headers: str) -> tuple[int, int]:
    """Status, and how many of the pieces were read."""
    sent: list[AsgiMessage] = []
    left = list(pieces)
    given = [
        (name.lower().encode(), str(value).encode())
        for name, value in {"host": "localhost", **post.headers, **headers}.items()
    ]

    async def receive() -> AsgiMessage:
        if not left:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": left.pop(0), "more_body": True}

    async def send(message: AsgiMessage) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/eventsub", "headers": given}
    await door.app({**scope, "query_string": b"", "root_path": ""}, receive, send)
    assert (b"connection", b"close") in sent[0]["headers"]
    return sent[0]["status"], len(pieces) - len(left)


async def test_a_body_that_says_it_is_large_is_not_read(door: Door) -> None:
    pieces = [b" " * 1024] * 100
    assert await run(door, online(), pieces, **{"content-length": "10485760"}) == (413, 0)


async def test_a_body_without_a_length_is_read_up_to_the_limit(door: Door) -> None:
    pieces = [b" " * 1024] * 1_000
    headers = {"transfer-encoding": "chunked"}
    assert await run(door, online(), pieces, **headers) == (413, 65)


async def test_a_body_that_lies_about_its_length_is_read_up_to_the_limit(door: Door) -> None:
    pieces = [b" " * 1024] * 1_000
    assert await run(door, online(), pieces, **{"content-length": "5"}) == (413, 65)


async def test_a_body_that_never_ends_is_given_up(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventsub, "BODY_WITHIN_S", 0.05)
    assert await run(door, online(), [b"{"]) == (408, 1)


async def test_a_sender_that_leaves_is_no_error(door: Door) -> None:
    async def receive() -> AsgiMessage:
        return {"type": "http.disconnect"}

    async def send(message: AsgiMessage) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "method": "POST", "path": "/eventsub", "headers": []}
    await door.webhook(scope, receive, send)


async def test_too_many_at_once_are_told_to_come_again(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventsub, "MOST_AT_ONCE", 0)
    answer = await door.post(online())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


# ---- secrets


async def test_the_secrets_are_asked_for_once(door: Door) -> None:
    assert door.asked == 0
    await asyncio.gather(*(door.post(online()) for _ in range(20)))
    assert door.asked == 1


async def test_forged_messages_do_not_become_questions(door: Door) -> None:
    forged = online().with_(secret="another secret")
    begun = time.monotonic()
    answers = await asyncio.gather(*(door.post(forged) for _ in range(200)))
    assert {answer.status_code for answer in answers} == {403}
    # One a second, whatever comes.
    assert door.asked <= 1 + (time.monotonic() - begun)


async def test_a_new_secret_is_found_when_the_old_one_does_not_fit(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rotation is followed by challenges with the new secret at once, many of them."""
    assert (await door.post(online())).status_code == 204
    monkeypatch.setattr(eventsub, "SECRETS_ASKED_EVERY_S", 0.0)
    door.secrets = ["the next one", SECRET]
    posts = [verification(str(number)).with_(secret="the next one") for number in range(10)]
    answers = await asyncio.gather(*(door.post(post) for post in posts))
    assert [answer.text for answer in answers] == [str(number) for number in range(10)]
    assert (await door.post(online())).status_code == 204


async def test_without_its_secret_it_cannot_tell(door: Door) -> None:
    door.error = DependencyUnavailable("the database cannot be reached")
    begun = time.monotonic()
    for _ in range(3):
        assert (await door.post(online())).status_code == 503
    assert door.asked <= 1 + (time.monotonic() - begun)
    assert door.count("unavailable") == 3


async def test_a_secret_that_was_known_is_good_while_nobody_answers(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await door.post(online())).status_code == 204
    monkeypatch.setattr(eventsub, "SECRETS_KEPT_S", 0.0)
    door.error = DependencyUnavailable("the database cannot be reached")
    assert (await door.post(online())).status_code == 204


async def test_without_a_twitch_application_nothing_is_genuine(door: Door) -> None:
    door.error = TwitchNotConfigured("no Twitch application is set up")
    assert (await door.post(online())).status_code == 403


# ---- the database


async def answered_in_time(door: Door, post: Post) -> httpx.Response:
    begun = time.monotonic()
    answer = await door.post(post)
    assert time.monotonic() - begun < ANSWER_S
    return answer


async def test_a_database_that_is_away_is_a_503_in_time(shut: Door) -> None:
    answer = await answered_in_time(shut, online())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert shut.count("unavailable") == 1


async def test_a_database_that_never_answers_is_a_503_in_time() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, opened(f"postgresql+asyncpg://sv@127.0.0.1:{port}/sv") as door:
        answers = await asyncio.gather(*(answered_in_time(door, online()) for _ in range(50)))
        assert {answer.status_code for answer in answers} == {503}


async def test_a_stall_is_a_503_in_time_and_the_next_delivery_is_kept(
    door: Door, db: Database
) -> None:
    post = online()
    async with db.begin() as session:
        await session.execute(text("LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE"))
        answers = await asyncio.gather(*(answered_in_time(door, post) for _ in range(3)))
        assert {answer.status_code for answer in answers} == {503}
    async with asyncio.timeout(30):
        while (await door.post(post)).status_code != 204:
            pass
    assert [row.message_id for row in await rows(db)] == [post.id]


async def test_a_lost_connection_costs_no_message(door: Door, db: Database) -> None:
    assert (await door.post(online())).status_code == 204
    async with db.begin() as session:
        await session.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    assert (await door.post(online())).status_code == 204
    assert len(await rows(db)) == 2


async def test_a_busy_pool_of_others_does_not_hold_it_up(door: Door, database_url: str) -> None:
    others = Database(database_url, pool_size=1, max_overflow=0)
    async with others.begin() as session:
        await session.execute(text("SELECT 1"))
        assert (await answered_in_time(door, online())).status_code == 204
    await others.close()


# ---- anything at all

names = st.sampled_from(["id", "timestamp", "signature", "type", "retry"])
headers_of_any_kind = st.lists(
    st.tuples(
        names.map(lambda name: f"twitch-eventsub-message-{name}".encode()) | st.binary(max_size=20),
        st.binary(max_size=80) | st.sampled_from([b"notification", b"sha256=" + b"0" * 64]),
    ),
    max_size=8,
)


@given(headers=headers_of_any_kind, body=st.binary(max_size=2_000), signed=st.booleans())
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_bytes_at_all_make_an_error_or_a_row(
    door: Door, headers: list[tuple[bytes, bytes]], body: bytes, signed: bool
) -> None:
    """Nor do bytes that our own secret signed, unless they are a message."""
    if signed:
        post = Post(body)
        headers = [(k.lower().encode(), str(v).encode()) for k, v in post.headers.items()]
    sent: list[AsgiMessage] = []

    async def receive() -> AsgiMessage:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: AsgiMessage) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/eventsub", "headers": headers}
    await door.webhook(scope, receive, send)
    assert 200 <= sent[0]["status"] < 500
    assert sum(door.count("accepted", type_) for type_ in ("stream.online", "other")) == 0


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(event=st.dictionaries(st.sampled_from(["id", "type", "title"]), json_values))
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_signed_event_is_an_error(door: Door, event: dict[str, Any]) -> None:
    post = notification("stream.online", {"broadcaster_user_id": "1", **event})
    assert (await door.post(post)).status_code in (204, 400)
