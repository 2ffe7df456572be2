"""The stored proxies as recorders and detection use them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from activities.proxies import ProxyBook
from streamvault.contracts import ProxyPolicy
from streamvault.db import proxies, streamers
from streamvault.db.ids import uuid7
from streamvault.db.models import Proxy
from streamvault.db.session import Database
from streamvault.errors import SourceUnavailable
from streamvault.hls.fetch import Fetcher
from streamvault.secrets import load_keyring
from streamvault.settings import Settings, check_settings
from streamvault.source import Playback, Transport, Wish
from tests.fake_twitch.client import FakeTwitch
from tests.proxies import Relay, relay_to

WISH = Wish("https://www.twitch.tv/alice", proxy_policy=ProxyPolicy.PROXY_ONLY)
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return check_settings({"data_dir": tmp_path, "database_url": database_url})


@pytest.fixture
def book(db: Database, settings: Settings) -> ProxyBook:
    return ProxyBook(db, settings)


@pytest.fixture
def relay(fake_twitch: FakeTwitch) -> Iterator[Relay]:
    with relay_to(fake_twitch.proxy_url) as running:
        yield running


async def store(
    db: Database, settings: Settings, name: str, url: str, streamer: UUID | None = None
) -> str:
    row = Proxy(id=uuid7(), name=name, shown="", has_password=False, streamer_id=streamer)
    row.sealed = load_keyring(settings).seal(f"proxies.{row.id}", url)
    async with db.begin() as session:
        await proxies.add_proxy(session, row, None)
    return str(row.id)


async def stored(db: Database, proxy_id: str) -> Proxy:
    async with db.begin() as session:
        return await proxies.get_proxy(session, proxy_id)


def names(book: ProxyBook, wish: Wish = WISH) -> list[str]:
    return [route.name if route else "direct" for route in book.pool.routes(wish)]


async def test_they_are_opened_in_their_order_after_that_of_the_setting(
    db: Database, settings: Settings
) -> None:
    await store(db, settings, "one", "http://u:p@127.0.0.1:1")
    two = await store(db, settings, "two", "http://127.0.0.1:2")
    off = await store(db, settings, "off", "http://127.0.0.1:3")
    async with db.begin() as session:
        (await proxies.get_proxy(session, off)).enabled = False
    fixed = check_settings({"stream_proxy": "http://203.0.113.7:4"}).stream_proxy
    book = ProxyBook(db, msgspec.structs.replace(settings, stream_proxy=fixed))
    await book.prepare(WISH)
    assert names(book) == ["STREAM_PROXY", "one", "two"]
    assert book.pool.address_of(two) == "http://127.0.0.1:2"


async def test_nothing_is_asked_of_the_database_for_those_who_go_direct(book: ProxyBook) -> None:
    await book._db.close()
    await book.prepare(Wish("https://x.example", proxy_policy=ProxyPolicy.DIRECT))
    assert book.known() is None


async def test_under_proxy_only_a_recorder_that_knows_none_yet_waits(book: ProxyBook) -> None:
    with pytest.raises(SourceUnavailable, match="not known yet"):
        book.pool.routes(WISH)
    await book.prepare(WISH)
    with pytest.raises(SourceUnavailable, match="there is no proxy"):
        book.pool.routes(WISH)


async def test_with_the_database_away_those_known_stay(
    db: Database, settings: Settings, book: ProxyBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(db, settings, "one", NOWHERE)
    await book.prepare(WISH)
    monkeypatch.setattr("activities.proxies.READ_EVERY_S", 0.0)
    book._db = Database("postgresql+asyncpg://sv@/sv?host=/nowhere", pool_size=1, max_overflow=0)
    await book.prepare(WISH)
    assert names(book) == ["one"]
    await book._db.close()


async def test_one_that_no_key_opens_is_named_and_costs_the_others_nothing(
    db: Database, settings: Settings, book: ProxyBook
) -> None:
    bad = await store(db, settings, "bad", NOWHERE)
    await store(db, settings, "good", NOWHERE)
    async with db.begin() as session:
        (await proxies.get_proxy(session, bad)).sealed = "v1.not-what-was-sealed"
    await book.prepare(WISH)
    assert names(book) == ["good"]
    row = await stored(db, bad)
    assert (row.ok, bool(row.error)) == (False, True)


async def test_those_of_one_streamer_are_for_nobody_else(
    db: Database, settings: Settings, book: ProxyBook
) -> None:
    async with db.begin() as session:
        new = streamers.NewStreamer("twitch", "alice", "Alice", "https://www.twitch.tv/alice")
        alice, _ = await streamers.add_streamer(session, new)
    await store(db, settings, "hers", NOWHERE, alice.id)
    await store(db, settings, "everybody's", NOWHERE)
    await book.prepare(WISH)
    hers = Wish(WISH.url, proxy_policy=ProxyPolicy.PROXY_ONLY, streamer_id=str(alice.id))
    assert names(book, hers) == ["hers", "everybody's"]
    assert names(book) == ["everybody's"]


async def test_a_kept_session_finds_its_proxy_again_in_a_process_that_has_just_started(
    db: Database, settings: Settings, book: ProxyBook
) -> None:
    one = await store(db, settings, "one", "http://u:p@127.0.0.1:1")
    kept = Playback("https://x.example/l.m3u8", Transport.HLS, "best", proxy_id=one)
    found = await book.readdressed(kept, WISH)
    assert found is not None
    assert found.proxy == "http://u:p@127.0.0.1:1"
    async with db.begin() as session:
        await proxies.delete_proxy(session, one)
    await book.refresh()
    assert await book.readdressed(kept, WISH) is None


@pytest.fixture
async def checking(
    book: ProxyBook, fake_twitch: FakeTwitch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """The background check, every quarter of a second."""
    monkeypatch.setattr("activities.proxies.CHECK_DUE_EVERY_S", 0.25)
    fetcher = Fetcher(fake_twitch.ca_bundle, tmp_path)

    async def look(url: str, proxy: str) -> None:
        await fetcher.get_text(url, proxy=proxy, timeout_s=5.0)

    task = asyncio.create_task(book.keep_checking(look))
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await fetcher.aclose()


async def checked(db: Database, proxy_id: str, *, ok: bool) -> Proxy:
    for _ in range(100):
        row = await stored(db, proxy_id)
        if row.ok is ok:
            return row
        await asyncio.sleep(0.1)
    raise AssertionError(f"not looked through: {row.ok} {row.error}")


@pytest.mark.usefixtures("checking")
async def test_each_is_looked_through_and_a_dead_one_is_last_in_line(
    db: Database, settings: Settings, book: ProxyBook, relay: Relay
) -> None:
    dead = await store(db, settings, "dead", NOWHERE)
    works = await store(db, settings, "works", f"http://user:secret@127.0.0.1:{relay.port}")
    row = await checked(db, works, ok=True)
    assert (row.error, row.latency_ms is not None) == ("", True)
    assert relay.connections > 0
    row = await checked(db, dead, ok=False)
    assert row.error
    elsewhere = ProxyBook(db, settings)
    await elsewhere.refresh()
    assert names(elsewhere) == ["works", "dead"]
    assert names(book) == ["works", "dead"]
    first = Wish(WISH.url, proxy_policy=ProxyPolicy.PROXY_FIRST)
    assert names(book, first) == ["works", "direct"]


@pytest.mark.usefixtures("checking")
async def test_one_that_wants_another_password_does_not_work_until_it_does(
    db: Database, settings: Settings, book: ProxyBook, relay: Relay
) -> None:
    relay.become("407")
    proxy_id = await store(db, settings, "ours", f"http://user:secret@127.0.0.1:{relay.port}")
    row = await checked(db, proxy_id, ok=False)
    assert "407" in row.error
    assert "secret" not in row.error
    assert book.pool.trouble_with(proxy_id)
    relay.become("ok")
    async with db.begin() as session:
        (await proxies.get_proxy(session, proxy_id)).checked_at = None
    await checked(db, proxy_id, ok=True)
    assert book.pool.trouble_with(proxy_id) == ""
