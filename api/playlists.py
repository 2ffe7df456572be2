"""Live playlists over the parts, kept between requests so that each one reads only new records."""

from __future__ import annotations

import asyncio
import gzip
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import monotonic

from streamvault.errors import NotFound
from streamvault.hls.journal import read_journal
from streamvault.hls.tail import LivePlaylist

JOURNAL_NAME = "journal.jsonl"
KEPT = 64
"""Recordings whose playlist stays in memory; 12 hours are below 1 MB."""
TAIL_BYTES = 64
COMPRESS_LEVEL = 5
VIEW_EVERY_S = 15.0


@dataclass(frozen=True, slots=True)
class PlaylistText:
    plain: bytes
    compressed: bytes
    tag: str
    """Changes exactly when the text does."""


class Playlists:
    """The playlists of this process, by recording; safe to ask from several requests at once."""

    def __init__(self, library: Path) -> None:
        self._library = library
        self._tails: OrderedDict[str, _Tail] = OrderedDict()
        self._viewed: dict[str, float] = {}

    async def read(self, recording_id: str, directory: str) -> PlaylistText:
        """The playlist of the records so far; parts are named `parts/<file name>`.

        Raises NotFound while nothing can be played yet."""
        return await asyncio.to_thread(self._tail_of(recording_id, directory).read)

    async def bytes_of(self, recording_id: str, directory: str, part: str) -> int:
        """How much of a part may be shown: what the journal vouches for."""
        return await asyncio.to_thread(self._tail_of(recording_id, directory).bytes_of, part)

    def is_news(self, recording_id: str) -> bool:
        """Whether a view of this recording was not noted within the last quarter minute."""
        now = monotonic()
        if now - self._viewed.get(recording_id, -VIEW_EVERY_S) < VIEW_EVERY_S:
            return False
        self._viewed = {k: at for k, at in self._viewed.items() if now - at < VIEW_EVERY_S}
        self._viewed[recording_id] = now
        return True

    def _tail_of(self, recording_id: str, directory: str) -> _Tail:
        tail = self._tails.pop(recording_id, None)
        if tail is None or tail.directory != directory:
            tail = _Tail(self._library, directory)
        self._tails[recording_id] = tail
        while len(self._tails) > KEPT:
            self._tails.popitem(last=False)
        return tail


class _Tail:
    """One journal, read up to a point."""

    def __init__(self, library: Path, directory: str) -> None:
        self.directory = directory
        self._path = library / directory / JOURNAL_NAME
        self._lock = Lock()
        self._playlist = _empty()
        self._offset = 0
        self._last = b""
        self._text: PlaylistText | None = None

    def read(self) -> PlaylistText:
        with self._lock:
            self._catch_up()
            if self._text is None:
                self._text = self._render()
            return self._text

    def bytes_of(self, part: str) -> int:
        with self._lock:
            self._catch_up()
            return self._playlist.bytes_of(part)

    def _catch_up(self) -> None:
        if not self._grew_only():
            self._forget()
        news = read_journal(self._path, self._offset)
        for record in news.records:
            self._playlist.feed(record)
        if news.valid_bytes != self._offset:
            self._offset = news.valid_bytes
            self._last = self._bytes_before_offset()
            self._text = None

    def _forget(self) -> None:
        self._playlist = _empty()
        self._offset, self._last, self._text = 0, b"", None

    def _grew_only(self) -> bool:
        """False when a recovery has cut the journal below what was read: it may have grown again
        past that point, with other records."""
        return self._bytes_before_offset() == self._last

    def _bytes_before_offset(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(max(self._offset - TAIL_BYTES, 0))
                return file.read(min(self._offset, TAIL_BYTES))
        except FileNotFoundError:
            return b""

    def _render(self) -> PlaylistText:
        if self._playlist.is_empty:
            raise NotFound("nothing is recorded yet", hint="try again in a few seconds")
        plain = self._playlist.text().encode()
        tag = f'"{self._offset:x}-{len(plain):x}"'
        return PlaylistText(plain, gzip.compress(plain, COMPRESS_LEVEL), tag)


def _empty() -> LivePlaylist:
    return LivePlaylist(lambda name: f"parts/{name}")
