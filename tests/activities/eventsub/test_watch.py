"""Conduit and WebSocket, and what becomes of them when Twitch misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from streamvault.db.session import Database
from streamvault.embedded.postgres import Postgres
from tests.activities.eventsub.stage import Stage, stage_of
from tests.fake_twitch.client import FakeTwitch


@pytest.fixture
def twitch(fake_twitch: FakeTwitch) -> Iterator[FakeTwitch]:
    fake_twitch.reset()
    yield fake_twitch
    fake_twitch.reset()


@pytest.fixture
async def stage(twitch: FakeTwitch, db: Database, tmp_path: Path) -> AsyncIterator[Stage]:
    """Without a public address, so that a conduit is the best there is."""
    async with stage_of(twitch, db, tmp_path) as stage:
        yield stage


async def test_a_conduit_is_made_and_every_channel_is_heard_through_it(stage: Stage) -> None:
    alice, bob = await stage.followed(2)
    async with stage.listening():
        await stage.until_enabled(6)
        assert stage.kinds() == {"stream.online": 2, "stream.offline": 2, "channel.update": 2}
        (conduit,) = stage.twitch.conduits(app=stage.app)
        assert {s["transport"]["conduit_id"] for s in stage.listed()} == {conduit["id"]}
        fact = await stage.until_fact(by_status={"enabled": 6}, connected=True)
        assert (fact["transport"], fact["wanted"], fact["reason"]) == ("conduit", "conduit", "")
        assert (fact["desired"], fact["channels"], fact["carried"]) == (6, 2, 2)
        stream_id = alice.online(speed=0)
        bob.change(title="something new")
        heard = await stage.until_heard(2)
    by_type = {message.type: message for message in heard}
    assert by_type["stream.online"].payload["event"]["id"] == stream_id
    assert by_type["channel.update"].payload["event"]["title"] == "something new"
    assert {message.source for message in heard} == {"conduit"}
    assert stage.figure("eventsub_subscriptions", status="enabled") == 6
    assert stage.figure("eventsub_subscriptions_desired") == 6
    assert stage.polls.asked >= 1


async def test_without_streamers_the_conduit_waits_for_them(stage: Stage) -> None:
    async with stage.listening():
        await stage.until_fact(connected=True, desired=0)
        await stage.followed(1)
        await stage.reconcile()
        await stage.until_enabled(3)


async def test_a_streamer_that_left_is_not_listened_to_any_more(stage: Stage) -> None:
    alice, bob = await stage.followed(2)
    async with stage.listening():
        await stage.until_settled(6)
        await stage.unfollow(alice)
        await stage.reconcile()
        assert {s["condition"]["broadcaster_user_id"] for s in stage.listed()} == {bob.user_id}
        assert {row.user_id for row in await stage.rows()} == {bob.user_id}


async def test_a_change_of_who_is_followed_is_noticed_without_being_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.eventsub.listening.LOOK_EVERY_S", 0.2)
    async with stage.listening():
        await stage.until_fact(connected=True)
        (alice,) = await stage.followed(1)
        await stage.until_enabled(3)
        await stage.unfollow(alice)
        await stage.until_enabled(0)


# ---- the socket


CODES = (4000, 4001, 4002, 4003, 4004, 4005, 4006, 4007)


@pytest.mark.parametrize("code", CODES)
async def test_after_every_close_code_the_conduit_delivers_again_and_the_poll_runs(
    stage: Stage, code: int
) -> None:
    (alice,) = await stage.followed(1)
    async with stage.listening():
        await stage.until_settled(3)
        asked = stage.polls.asked
        stage.twitch.close_sockets(code)
        await until_led_again(stage)
        stream_id = alice.online(speed=0)
        (message,) = await stage.until_heard(1)
    assert message.payload["event"]["id"] == stream_id
    assert stage.polls.asked > asked
    assert stage.figure("eventsub_ws_reconnects_total", code=str(code)) == 1


@pytest.mark.parametrize("trouble", ["cut", "silence"])
async def test_a_dead_socket_is_replaced(stage: Stage, trouble: str) -> None:
    (alice,) = await stage.followed(1)
    with stage.twitch.knobs(keepalive_s=1):
        async with stage.listening():
            await stage.until_settled(3)
            if trouble == "cut":
                stage.twitch.cut_sockets()
            else:
                stage.twitch.silence_sockets()
            await until_led_again(stage)
            stream_id = alice.online(speed=0)
            (message,) = await stage.until_heard(1)
    assert message.payload["event"]["id"] == stream_id
    label = "1006" if trouble == "cut" else "silence"
    assert stage.figure("eventsub_ws_reconnects_total", code=label) == 1


async def until_led_again(stage: Stage) -> None:
    """The conduit's shard is up, on a socket that was not there before."""
    before = {socket.session_id for socket in stage.twitch.sockets()}

    def is_up() -> bool:
        (conduit,) = stage.twitch.conduits(app=stage.app)
        (shard,) = conduit["shards"]
        session_id = shard["transport"].get("session_id")
        alive = {socket.session_id for socket in stage.twitch.sockets()}
        return shard["status"] == "enabled" and session_id in alive

    await stage.until(lambda: {s.session_id for s in stage.twitch.sockets()} - before != set())
    await stage.until(is_up)


async def test_a_welcome_that_never_comes_is_tried_again(stage: Stage) -> None:
    await stage.followed(1)
    stage.twitch.fault("eventsub.ws", "hang", count=1, seconds=30)
    async with stage.listening():
        await stage.until_settled(3)
    assert stage.figure("eventsub_ws_reconnects_total", code="no_welcome") == 1


async def test_what_health_is_told_while_no_socket_comes_up(stage: Stage) -> None:
    stage.twitch.fault("eventsub.ws", "status", status=503)
    async with stage.listening():
        fact = await stage.until_fact(lost="the EventSub WebSocket cannot be reached (HTTP 503)")
        assert (fact["transport"], fact["connected"]) == ("conduit", False)


@pytest.mark.parametrize("keeps_id", [True, False])
@pytest.mark.parametrize("transport", ["conduit", "websocket"])
async def test_a_reconnect_that_twitch_asks_for_loses_nothing(
    twitch: FakeTwitch, db: Database, tmp_path: Path, transport: str, keeps_id: bool
) -> None:
    async with stage_of(twitch, db, tmp_path, eventsub_transport=transport) as stage:
        await stage.sign_in()
        (alice,) = await stage.followed(1)
        alice.online(speed=0)
        titles = [f"title {number}" for number in range(40)]
        with twitch.knobs(reconnect_keeps_id=keeps_id):
            async with stage.listening():
                await stage.until_settled(3)
                for number, title in enumerate(titles):
                    alice.change(title=title)
                    if number == 10:
                        twitch.reconnect_sockets()
                    await asyncio.sleep(0.02)
                heard = await stage.until_heard(len(titles))
        said = [message.payload["event"]["title"] for message in heard]
        assert sorted(said) == sorted(titles)
        assert stage.figure("eventsub_ws_reconnects_total", code="asked") == 1
        assert len(stage.creates()) == 3


async def test_messages_are_kept_while_the_database_is_away(
    stage: Stage, postgres: Postgres, database_url: str
) -> None:
    name = urlsplit(database_url).path.strip("/")
    (alice,) = await stage.followed(1)
    async with stage.listening():
        await stage.until_settled(3)
        await asyncio.to_thread(let_in, postgres, name, False)
        for number in range(20):
            alice.change(title=f"title {number}")
        await stage.until(lambda: len(stage.twitch.deliveries(app=stage.app)) == 20)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(let_in, postgres, name, True)
        heard = await stage.until_heard(20)
    assert len({message.payload["event"]["title"] for message in heard}) == 20


def let_in(postgres: Postgres, name: str, allowed: bool) -> None:
    """Or throw everybody out."""
    postgres.query(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}", "postgres")
    if not allowed:
        who = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        postgres.query(who, "postgres")


async def test_what_was_heard_before_a_shutdown_is_stored(stage: Stage) -> None:
    (alice,) = await stage.followed(1)
    async with stage.listening():
        await stage.until_settled(3)
        for number in range(20):
            alice.change(title=f"title {number}")
        await stage.until(lambda: len(stage.twitch.deliveries(app=stage.app)) == 20)
        await asyncio.sleep(0.05)
    assert len(await stage.heard()) == 20
    assert stage.twitch.sockets() == []


# ---- the conduit


async def test_a_shard_that_twitch_disabled_is_led_to_us_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.eventsub.listening.CHECK_SHARD_EVERY_S", 0.2)
    monkeypatch.setattr("activities.eventsub.listening.LOOK_EVERY_S", 0.2)
    (alice,) = await stage.followed(1)
    async with stage.listening():
        await stage.until_settled(3)
        (conduit,) = stage.twitch.conduits(app=stage.app)
        stage.twitch.lose_shard(conduit["id"], "0")
        await stage.until(
            lambda: stage.twitch.conduits(app=stage.app)[0]["shards"][0]["status"] == "enabled"
        )
        alice.online(speed=0)
        await stage.until_heard(1)
    assert len(stage.creates()) == 3


async def test_a_conduit_that_is_gone_is_made_anew_with_everything_on_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.eventsub.listening.LOOK_EVERY_S", 0.2)
    (alice,) = await stage.followed(1)
    async with stage.listening():
        await stage.until_settled(3)
        (old,) = stage.twitch.conduits(app=stage.app)
        stage.twitch.lose_conduit(old["id"])
        await stage.reconcile()
        await stage.until_enabled(3)
        (new,) = stage.twitch.conduits(app=stage.app)
        assert new["id"] != old["id"]
        alice.online(speed=0)
        await stage.until_heard(1)


async def test_the_conduit_of_an_earlier_run_is_used_again(stage: Stage) -> None:
    await stage.followed(1)
    for _ in range(2):
        async with stage.listening():
            await stage.until_settled(3)
            await stage.until_fact(connected=True)
    assert len(stage.twitch.conduits(app=stage.app)) == 1
    assert len(stage.creates()) == 3


async def test_events_while_helix_is_away_are_heard_all_the_same(stage: Stage) -> None:
    (alice,) = await stage.followed(1)
    async with stage.listening():
        await stage.until_settled(3)
        stage.twitch.fault("helix", "status", status=503)
        stage.twitch.fault("eventsub.subscriptions", "status", status=503)
        stage.twitch.fault("eventsub.conduits", "status", status=503)
        await stage.reconcile()
        stream_id = alice.online(speed=0)
        (message,) = await stage.until_heard(1)
        assert message.payload["event"]["id"] == stream_id
        assert (await stage.fact())["problem"]


async def test_the_activity_ends_when_its_worker_does(stage: Stage) -> None:
    async with stage.listening() as listening:
        await stage.until_fact(connected=True)
    assert listening.result().rounds >= 1
