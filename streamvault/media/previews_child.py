"""Child process that decodes keyframes: `python -m streamvault.media.previews_child`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from av import Packet
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image, ImageStat

from streamvault.media.av_open import main_video, open_media
from streamvault.media.child import reporting, serve

TILE_PX = 320
SHEET_COLUMNS = 10
POSTER_PX = 1280
POSTER_QUALITY = 85
SHEET_QUALITY = 70
SHEET_METHOD = 2  # within 5 % of method 4's size for less than half its time
KEYFRAME_TRIES = 3  # keyframes to try to decode before giving a time up

# Judging a poster: on this many pixels of luma, and against these limits, media.md section 5.
JUDGED_SIZE = (64, 36)
DARK, BRIGHT, FLAT, IDEAL_MEAN = 24.0, 232.0, 12.0, 118.0


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Dispatch on `what`: `poster` or `sheets`."""
    work = {"poster": _poster, "sheets": _sheets}[request["what"]]
    sources = [_Source(Path(path), start, span) for path, start, span in request["sources"]]
    try:
        return work(sources, request)
    finally:
        for source in sources:
            source.close()


class _Source:
    """One file, opened at its first picture; remembers the last keyframe it decoded."""

    def __init__(self, path: Path, start_s: float, duration_s: float) -> None:
        self._path = path
        self.start_s, self.end_s = start_s, start_s + duration_s
        self._container: InputContainer | None = None
        self._video: VideoStream | None = None
        self._last: tuple[int | None, VideoFrame] | None = None

    def close(self) -> None:
        if self._container:
            self._container.close()

    def keyframe(self, at_s: float) -> VideoFrame | None:
        """The keyframe at or before `at_s` of the recording; None where none decodes.

        In MPEG-TS, which has no index, it may be the one after.
        """
        container, video = self._open()
        if video is None or video.time_base is None:
            return None
        offset = int(max(at_s - self.start_s, 0.0) / video.time_base) + (video.start_time or 0)
        try:
            container.seek(offset, stream=video, backward=True)
        except OSError:
            # Damage in the middle of a .ts hides the timestamps that a seek goes by.
            return None
        return self._first_good(container, video)

    def _first_good(self, container: InputContainer, video: VideoStream) -> VideoFrame | None:
        keys = (p for p in container.demux(video) if p.is_keyframe and p.size)
        for packet in itertools.islice(keys, KEYFRAME_TRIES):
            if self._last and self._last[0] == packet.pts:
                return self._last[1]
            if frame := _decode(video, packet):
                self._last = (packet.pts, frame)
                return frame
        return None

    def _open(self) -> tuple[InputContainer, VideoStream | None]:
        if self._container is None:
            self._container = open_media(self._path)
            self._video = main_video(self._container)
            if self._video:
                self._video.codec_context.thread_count = 1
                self._video.codec_context.skip_frame = "NONKEY"
        return self._container, self._video


def _decode(video: VideoStream, packet: Packet[Any]) -> VideoFrame | None:
    context = video.codec_context
    try:
        frames = [*context.decode(packet), *context.decode(None)]
    except ValueError:
        return None
    finally:
        context.flush_buffers()
    return frames[0] if frames else None


def _keyframes(
    sources: Sequence[_Source], times: Iterable[float]
) -> Iterator[tuple[float, VideoFrame | None]]:
    """For each time a picture of the file that covers it, or of the one before a hole."""
    for at_s in times:
        before = [source for source in sources if source.start_s <= at_s]
        source = before[-1] if before else sources[0]
        # One frame short of the end, so that a hole shows the last picture before it.
        yield at_s, source.keyframe(min(at_s, source.end_s - 0.05))


def _poster(sources: Sequence[_Source], request: dict[str, Any]) -> dict[str, Any]:
    frames = ((at, frame) for at, frame in _keyframes(sources, request["times"]) if frame)
    best = max(((_score(frame), at, frame) for at, frame in frames), key=_first, default=None)
    if best is None:
        return {"found": False}
    _, at_s, frame = best
    picture = _scaled(frame, POSTER_PX)
    _save(picture, Path(request["output"]), "JPEG", quality=POSTER_QUALITY, optimize=True)
    return {"found": True, "at_s": at_s, "width": picture.width, "height": picture.height}


def _first(candidate: tuple[tuple[bool, float], float, VideoFrame]) -> tuple[bool, float]:
    return candidate[0]


def _score(frame: VideoFrame) -> tuple[bool, float]:
    """Contrast, and how near to a middle brightness; dark, blown out or flat ones come last."""
    stat = ImageStat.Stat(_image(frame, *JUDGED_SIZE).convert("L"))
    mean, deviation = stat.mean[0], stat.stddev[0]
    usable = DARK <= mean <= BRIGHT and deviation >= FLAT
    return usable, deviation * (1 - abs(mean - IDEAL_MEAN) / IDEAL_MEAN)


def _sheets(sources: Sequence[_Source], request: dict[str, Any]) -> dict[str, Any]:
    """Tiles of all times, 10 x 10 to a sheet; `pattern` names the sheets from `first` on."""
    directory = Path(request["directory"])
    directory.mkdir(parents=True, exist_ok=True)
    sheets: list[str] = []
    size = (0, 0)
    for tiles in _by_sheet(_tiles(sources, reporting(request["times"]))):
        size = tiles[0].size
        name = request["pattern"].format(len(sheets) + request["first"])
        _save_sheet(tiles, directory / name)
        sheets.append(name)
    return {"sheets": sheets, "width": size[0], "height": size[1]}


def _by_sheet(tiles: Iterator[Image.Image]) -> Iterator[list[Image.Image]]:
    while sheet := list(itertools.islice(tiles, SHEET_COLUMNS**2)):
        yield sheet


def _tiles(sources: Sequence[_Source], times: Iterable[float]) -> Iterator[Image.Image]:
    """One per time, all of the first one's size; where nothing decodes, the one before again."""
    frame, tile, waiting = None, None, 0
    for _, found in _keyframes(sources, times):
        if found is None and tile is None:
            waiting += 1
            continue
        if found is not None and found is not frame:
            frame, tile = found, _fitted(found, tile)
        assert tile is not None
        yield from [tile] * (waiting + 1)
        waiting = 0


def _fitted(frame: VideoFrame, model: Image.Image | None) -> Image.Image:
    tile = _scaled(frame, TILE_PX)
    return tile if model is None or tile.size == model.size else tile.resize(model.size)


def _scaled(frame: VideoFrame, longest: int) -> Image.Image:
    """At most `longest` pixels a side, even numbers of them."""
    scale = min(1.0, longest / max(frame.width, frame.height))
    width, height = (max(2, round(side * scale / 2) * 2) for side in (frame.width, frame.height))
    return _image(frame, width, height)


def _image(frame: VideoFrame, width: int, height: int) -> Image.Image:
    small = frame.reformat(width, height, "rgb24", interpolation="AREA", threads=1)
    picture: Image.Image = small.to_image()  # type: ignore[no-untyped-call]  # PyAV leaves it out
    return picture


def _save_sheet(tiles: Sequence[Image.Image], path: Path) -> None:
    width, height = tiles[0].size
    columns = min(len(tiles), SHEET_COLUMNS)
    rows = -(-len(tiles) // SHEET_COLUMNS)
    sheet = Image.new("RGB", (columns * width, rows * height))
    for place, tile in enumerate(tiles):
        row, column = divmod(place, SHEET_COLUMNS)
        sheet.paste(tile, (column * width, row * height))
    if path.suffix == ".webp":
        _save(sheet, path, "WEBP", quality=SHEET_QUALITY, method=SHEET_METHOD)
    else:
        _save(sheet, path, "JPEG", quality=SHEET_QUALITY)


def _save(picture: Image.Image, path: Path, kind: str, **options: Any) -> None:
    """Through a temporary name: readers see the old picture or the new one, nothing between."""
    temporary = path.with_name(f".{path.name}.tmp")
    picture.save(temporary, kind, **options)
    temporary.replace(path)


if __name__ == "__main__":
    serve(answer)
