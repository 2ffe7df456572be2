"""Avatars and the art of categories, fetched in the background and kept beside the database."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING

from temporalio import activity

from streamvault.db import pictures
from streamvault.db.pictures import Shown
from streamvault.db.session import Database
from streamvault.errors import TwitchError
from streamvault.media.pictures import shrink

if TYPE_CHECKING:
    import httpx

    from activities.twitch_access import TwitchAccess
    from streamvault.twitch.words import Game

log = logging.getLogger(__name__)

CATEGORY_AGE = timedelta(days=30)
CATEGORIES_A_RUN = 500
ART_PX = (285, 380)
SCRATCH = ".new-"
BATCH = 20
AT_ONCE = 4
WORK_FOR_S = 60.0  # what is left then waits for the next run
UNUSED_FOR_S = 3600.0  # a browser may just be on its way to a picture that was replaced


@dataclass
class Pictures:
    db: Database
    folder: Path
    twitch: Callable[[], Awaitable[TwitchAccess | None]]
    """None without a Twitch application."""
    ca_bundle: Path | None = None
    hosts: frozenset[str] | None = None
    """Where pictures may come from; None is Twitch's CDN."""

    @activity.defn(name="refresh_pictures")
    async def refresh(self) -> int:
        """Fetch what is new or has changed, remove what nobody shows; how many were fetched."""
        self.folder.mkdir(parents=True, exist_ok=True)
        await self._learn_categories()
        fetched = await self._fetch_due()
        await self._sweep()
        return fetched

    async def _learn_categories(self) -> None:
        access = await self.twitch()
        if access is None:
            return
        async with self.db.begin() as session:
            ids = await pictures.categories_due(session, CATEGORY_AGE, CATEGORIES_A_RUN)
        if not ids:
            return
        try:
            found = {game.id: game for game in await access.helix.games(ids)}
        except TwitchError as error:
            log.warning("categories not asked for", extra={"why": error.one_line})
            return
        async with self.db.begin() as session:
            for category_id in ids:
                # One that Twitch does not know any more is not asked for again each hour.
                game = found.get(category_id)
                name, art = (game.name, _art_of(game)) if game else ("", "")
                await pictures.put_category(session, category_id, name, art)

    async def _fetch_due(self) -> int:
        async with self.db.begin() as session:
            shown = await pictures.list_shown(session)
        here = await asyncio.to_thread(_files, self.folder)
        due = [one for one in shown if _is_due(one, here)]
        if not due:
            return 0
        # Its HTTP library costs memory that an idle worker should not hold from its start on.
        from streamvault.twitch.exchange import open_http  # noqa: PLC0415

        ends_at, fetched = monotonic() + WORK_FOR_S, 0
        async with open_http(self.ca_bundle) as http:
            for start in range(0, len(due), BATCH):
                batch = [_Order(one) for one in due[start : start + BATCH]]
                fetched += await self._fetch_batch(http, batch)
                is_away = all(order.again for order in batch)
                if is_away or monotonic() > ends_at:
                    break
        return fetched

    async def _fetch_batch(self, http: httpx.AsyncClient, batch: Sequence[_Order]) -> int:
        room = asyncio.Semaphore(AT_ONCE)
        scratch = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=SCRATCH, dir=self.folder))
        try:
            await asyncio.gather(*(self._fetch(http, room, order, scratch) for order in batch))
            await self._shrink([order for order in batch if order.path])
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)
        async with self.db.begin() as session:
            for order in batch:
                if not order.again:
                    await pictures.note_image(session, order.shown, order.image)
        return sum(bool(order.image) for order in batch)

    async def _fetch(
        self, http: httpx.AsyncClient, room: asyncio.Semaphore, order: _Order, scratch: Path
    ) -> None:
        from streamvault.twitch.pictures import HOSTS, fetch_picture  # noqa: PLC0415  # see above

        if not order.shown.url:
            return
        async with room:
            try:
                body = await fetch_picture(http, order.shown.url, self.hosts or HOSTS)
            except TwitchError as error:
                order.again = not error.permanent
                log.info("picture not fetched", extra={"why": error.one_line})
                return
        order.path = scratch / str(order.shown.key)
        await asyncio.to_thread(order.path.write_bytes, body)

    async def _shrink(self, arrived: Sequence[_Order]) -> None:
        if not arrived:
            return
        results = await shrink([order.path for order in arrived if order.path], self.folder)
        for order, result in zip(arrived, results, strict=True):
            order.image = result.name
            if result.problem:
                log.info("picture not usable", extra={"why": result.problem})

    async def _sweep(self) -> None:
        async with self.db.begin() as session:
            used = await pictures.images_in_use(session)
        await asyncio.to_thread(_remove_unused, self.folder, used, time() - UNUSED_FOR_S)


@dataclass
class _Order:
    """One picture on its way: an address, then a file, then a picture of ours."""

    shown: Shown
    path: Path | None = None
    image: str = ""
    again: bool = False
    """Not now; perhaps the next time."""


def _is_due(shown: Shown, here: set[str]) -> bool:
    return shown.url != shown.source or bool(shown.image and shown.image not in here)


def _art_of(game: Game) -> str:
    return game.art_url.replace("{width}", str(ART_PX[0])).replace("{height}", str(ART_PX[1]))


def _files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _remove_unused(folder: Path, used: set[str], before: float) -> None:
    """What no row names any more, and what a process that died left behind."""
    for path in folder.iterdir():
        if path.name in used or path.lstat().st_mtime > before:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
