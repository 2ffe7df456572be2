"""One recording as the media steps see it: its row, its files, its timeline."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from streamvault.db import preferences, recordings, streamers, streams
from streamvault.db.models import Recording, Stream, StreamEvent, mapping
from streamvault.db.preferences import Preferences
from streamvault.db.session import Database
from streamvault.hls.journal import JOURNAL_NAME, read_journal
from streamvault.hls.part_check import problem_of_part
from streamvault.hls.room import Room
from streamvault.hls.timeline import Timeline
from streamvault.media import naming
from streamvault.media.chapters import (
    Break,
    ChannelChange,
    Chapter,
    build_chapters,
    moved,
    with_breaks,
)
from streamvault.media.previews import MediaSource
from streamvault.media.remux import PartFile


@dataclass(frozen=True)
class Shelved:
    """Where everything of one recording is."""

    recording: Recording
    episode: int
    name: Path
    """Of a final file that is to be made, relative to the shelf."""
    libraries: tuple[Path, ...]
    shelf: Path
    """That of the libraries which has, or gets, the final file and what is beside it."""
    work: Path
    """Parts and journal while there are any; the storyboard for good."""
    timeline: Timeline
    """Empty when the journal is gone, as it is once the final file is verified."""
    events: Sequence[StreamEvent]
    wishes: Preferences

    @property
    def final(self) -> Path:
        """The final file, or what its name will be."""
        return self.shelf / (self.recording.path or self.name)

    def beside(self, ending: str) -> Path:
        """A file of the final file's stem, such as `-poster.jpg`; `poster.jpg` with the parts when
        they are all there is."""
        if not self.recording.path:
            return self.work / ending.lstrip("-.")
        return self.final.with_name(f"{self.final.stem}{ending}")

    @property
    def stays_in_parts(self) -> bool:
        """No file is to be made of it."""
        return self.wishes.container == "parts" and not self.recording.path

    @property
    def parts(self) -> list[PartFile]:
        clock = float if self.wishes.keep_holes else self.timeline.without_holes
        return [
            PartFile(
                path=self.work / span.file_name,
                start_wall_s=span.start_wall_s,
                duration_s=span.duration_s,
                codecs=span.codecs,
                size_bytes=span.size_bytes,
                gap_s=span.span_s - span.duration_s,
                clock_s=clock(span.start_s),
            )
            for span in self.timeline.parts
        ]

    def problems_of_parts(self) -> list[str]:
        """One line each; every part is read once."""
        found = (problem_of_part(self.work, span) for span in self.timeline.parts)
        return [problem for problem in found if problem]

    @property
    def has_parts(self) -> bool:
        parts = self.parts
        return bool(parts) and all(part.path.exists() for part in parts)

    @property
    def chapters(self) -> list[Chapter]:
        """Those of the final file once there is one, else those that it will have."""
        if self.recording.path or not self.timeline.parts:
            return stored_chapters(self.recording)
        return self.new_chapters

    @property
    def new_chapters(self) -> list[Chapter]:
        """For a file that is to be made."""
        timeline, wishes = self.timeline, self.wishes
        changes = [_change(event, wishes) for event in self.events]
        built = build_chapters(changes, timeline.media_of_wall, timeline.duration_s)
        chapters = with_breaks(built, self._breaks())
        if wishes.keep_holes and not self.stays_in_parts:
            return chapters
        return moved(chapters, timeline.without_holes)

    def _breaks(self) -> Iterator[Break]:
        if self.wishes.ad_chapters:
            yield from (Break(a.start_s, a.duration_s, "Ad break") for a in self.timeline.ads)
        if self.wishes.gap_chapters:
            yield from (Break(g.start_s, g.duration_s, "Not recorded") for g in self.timeline.gaps)

    @property
    def pictures_from(self) -> list[MediaSource]:
        if self.recording.path:
            return [MediaSource(self.final, 0.0, self.recording.duration_s)]
        # HLS plays part after part, whatever is missing between them.
        clock = self.timeline.without_holes if self.stays_in_parts else float
        return [
            MediaSource(self.work / span.file_name, clock(span.start_s), span.span_s)
            for span in self.timeline.parts
        ]


async def take_from_shelf(
    db: Database, libraries: tuple[Path, ...], recording_id: str, *, ad_chapters: bool = False
) -> Shelved:
    """Load a recording, giving it its episode number if it has none. Raises NotFound."""
    async with db.begin() as session:
        recording = await recordings.get_recording(session, recording_id)
        episode = await recordings.allocate_episode(
            session,
            recording_id,
            naming.safe_name(recording.streamer_name, naming.MAX_TOKEN_BYTES),
            recording.started_at.date(),
        )
        wishes = await preferences.get_preferences(session)
        name = await _name(session, recording, episode, wishes)
        events = await streams.list_channel_events(session, recording_id)
    work = libraries[0] / (recording.directory or "")
    journal = await asyncio.to_thread(read_journal, work / JOURNAL_NAME)
    timeline = Timeline(journal.records)
    shelf = await asyncio.to_thread(_choose_shelf, libraries, recording, timeline.size_bytes)
    if ad_chapters:
        wishes = msgspec.structs.replace(wishes, ad_chapters=True)
    return Shelved(recording, episode, name, libraries, shelf, work, timeline, events, wishes)


def _change(event: StreamEvent, wishes: Preferences) -> ChannelChange:
    at = event.timestamp.timestamp()
    if wishes.chapters == "category" and event.category:
        return ChannelChange(at, "", event.category)
    return ChannelChange(at, event.title, event.category)


async def _name(session: AsyncSession, row: Recording, episode: int, wishes: Preferences) -> Path:
    """By the streamer's own template, else by the general one."""
    streamer = await streamers.find_by_id(session, row.streamer_id)
    stream = await streams.find_by_id(session, row.stream_id)
    template = (streamer.naming if streamer else "") or wishes.naming
    ending = ".mkv" if wishes.container == "mkv" else ".mp4"
    return naming.recording_path(template, name_of(row, episode, stream), ending)


def name_of(row: Recording, episode: int, stream: Stream | None) -> naming.Named:
    """What a template may say of it."""
    return naming.Named(
        streamer=row.streamer_name,
        started_at=row.started_at,
        number=episode,
        title=row.title,
        category=row.category,
        login=row.streamer_login or row.streamer_name,
        quality=row.variant or row.quality,
        stream_id=stream.platform_stream_id if stream else "",
    )


def _choose_shelf(libraries: tuple[Path, ...], recording: Recording, size_bytes: int) -> Path:
    """Where the final file is; for one to be made the first library with room for it."""
    if recording.path:
        found = (root for root in libraries if (root / recording.path).exists())
    else:
        found = (root for root in libraries if _fits(root, size_bytes))
    return next(found, libraries[0])


def _fits(root: Path, size_bytes: int) -> bool:
    try:
        room = Room.at(root)
    except OSError:
        return False
    return room.free_bytes - room.reserve_bytes > size_bytes


def stored_chapters(recording: Recording) -> list[Chapter]:
    """A damaged one is left out."""
    told = recording.chapters if isinstance(recording.chapters, list) else []
    rows = [row for row in told if _is_chapter(row)]
    ends = [*(row["start_s"] for row in rows[1:]), recording.duration_s]
    return [
        # Without a chapter there is still an end.
        Chapter(row["start_s"], end, row.get("title", ""), row.get("category", ""))
        for row, end in zip(rows, ends, strict=False)
    ]


def _is_chapter(stored: object) -> bool:
    return isinstance(mapping(stored).get("start_s"), (int, float))
