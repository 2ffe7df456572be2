"""Where to record from: streamlink, in-process, finds what is live at an address, and its playlist.

It only resolves; `hls` fetches. Its calls block, so they run in threads, a few at a time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from streamvault.errors import SourceError
from streamvault.playback.addresses import check_url
from streamvault.playback.proxies import ProxyPool
from streamvault.source import Playback, Sighting, Wish

if TYPE_CHECKING:
    from streamvault.playback.finder import Finder

__all__ = ["Sources", "check_url"]

PARALLEL = 4

T = TypeVar("T")


class Sources:
    """`pool` says by which ways to ask; without it everything goes through `proxy_url`, if given.
    `prepare` is awaited before each question.

    `ca_bundle` is added to the system's authorities. Every address goes through check_url first.

    `twitch_token` answers the web session's token of Twitch, or None; it is called in the threads
    that do the work, so it must be quick and safe there.

    All methods raise InvalidInput, UnknownSource, StreamOffline, AccessRefused, SourceUnavailable.
    """

    def __init__(
        self,
        proxy_url: str | None = None,
        ca_bundle: Path | None = None,
        twitch_token: Callable[[], str | None] = lambda: None,
        *,
        pool: ProxyPool | None = None,
        prepare: Callable[[Wish], Awaitable[None]] | None = None,
    ) -> None:
        self._prepare = prepare
        self._pool = pool or ProxyPool.of_one(proxy_url)
        self._ca_bundle = ca_bundle
        self._twitch_token = twitch_token
        self._finder: Finder | None = None
        self._loading = threading.Lock()
        self._threads = ThreadPoolExecutor(PARALLEL, thread_name_prefix="source")

    async def look(self, wish: Wish, *, live_only: bool = False) -> Sighting:
        """What is live there; `live_only` takes a playlist that is complete for offline, since
        nobody wants it recorded again and again.

        StreamOffline also for a Twitch channel that does not exist, since the player's answers do
        not tell the two apart."""
        return await self._ask(wish, lambda: self._loaded().look(wish, live_only=live_only))

    async def stream_of(self, wish: Wish) -> str:
        """The id of the stream that is live there; "" when nobody can say."""
        try:
            return (await self.look(wish)).stream_id or ""
        except SourceError:
            return ""

    async def resolve(self, wish: Wish) -> Playback:
        """A new playback session in the asked quality, with its own token."""
        return await self._ask(wish, lambda: self._loaded().resolve(wish))

    def open_reader(self, wish: Wish) -> BinaryIO:
        """streamlink's own reader, for what is not HLS. Blocks, as do its `read`s; close it."""
        check_url(wish.url)
        return self._loaded().open_reader(wish)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, wish: Wish, work: Callable[[], T]) -> T:
        check_url(wish.url)
        if self._prepare is not None:
            await self._prepare(wish)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _loaded(self) -> Finder:
        """streamlink takes a second of CPU to load. A recorder that was killed goes on from its
        stored session without it, while the playlist still has what it missed."""
        with self._loading:
            if self._finder is None:
                from streamvault.playback.finder import Finder  # noqa: PLC0415  # see above

                self._finder = Finder(self._pool, self._ca_bundle, self._twitch_token)
            return self._finder
