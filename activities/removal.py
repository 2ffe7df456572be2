"""Taking a recording's files out of the library, and its folders where nothing else is in them."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from activities.artwork import is_artwork
from streamvault.db.models import Recording, mapping
from streamvault.errors import InvalidInput, StorageUnwritable
from streamvault.hls.journal import remove_part

TRICKPLAY = ".trickplay"
BESIDE = (".nfo", "-poster.jpg", ".chapters.vtt", ".report.json")


def remove_files(libraries: Sequence[Path], row: Recording) -> None:
    """Final files, what lies beside them, parts, storyboard; again, it does nothing.

    Raises InvalidInput for a row whose paths lead out of the library, StorageUnwritable."""
    for root in libraries:
        try:
            for path in _files_of(root, row):
                remove_part(path)
            remove_empty_folders(root, _places_of(root, row))
        except OSError as error:
            raise StorageUnwritable(f"{error.filename or root}: {error.strerror}") from error


def remove_empty_folders(root: Path, paths: Iterable[Path]) -> None:
    """In which these were, from the inside out, up to the library itself."""
    folders = {folder for path in paths for folder in path.parents if root in folder.parents}
    for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
        _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    """Pictures of a series without recordings are nothing either."""
    # In use, or gone already.
    with suppress(OSError):
        left = list(folder.iterdir())
        if all(is_artwork(path.name) for path in left):
            for path in left:
                path.unlink()
            folder.rmdir()


def where_it_is(libraries: Sequence[Path], row: Recording) -> int | None:
    """Which of the libraries has the final file, or the parts; None when none of them does."""
    told = row.path or row.directory
    if not told:
        return None
    found = (n for n, root in enumerate(libraries) if below(root, told).exists())
    return next(found, None)


def below(root: Path, told: str) -> Path:
    """A path that a row tells, in the library. Raises InvalidInput if it leads out of it."""
    relative = PurePosixPath(told)
    if relative.is_absolute() or ".." in relative.parts or "\0" in told or not relative.parts:
        raise InvalidInput(f"{told[:80]!r} is no path in a library", hint="the row is damaged")
    return root / relative


def final_files(root: Path, row: Recording) -> Iterator[Path]:
    """What is, or may be, at the place of the final file. Raises InvalidInput."""
    final = below(root, row.path or "")
    yield from (final.with_name(name) for name in _names(row))
    yield from (final.with_name(f"{final.stem}{ending}") for ending in BESIDE)
    yield from (p for p in _trickplay(final).rglob("*") if not p.is_dir())


def _files_of(root: Path, row: Recording) -> Iterator[Path]:
    if row.path:
        final = below(root, row.path)
        yield from final_files(root, row)
        for unfinished in ("part-*", "*.moving"):
            yield from final.parent.glob(f".{glob.escape(final.stem)}.{unfinished}")
    if row.directory:
        work = below(root, row.directory)
        yield from (path for path in work.glob("*") if not path.is_dir())


def _trickplay(final: Path) -> Path:
    return final.with_name(f"{final.stem}{TRICKPLAY}")


def _names(row: Recording) -> Iterator[str]:
    """Of a file that was renamed by hand the report tells names that may be another's by now."""
    own = PurePosixPath(row.path or "").name
    yield own
    files = mapping(row.report).get("files")
    told = [mapping(one).get("name") for one in files] if isinstance(files, list) else []
    if told[:1] == [own]:
        yield from (name for name in told[1:] if isinstance(name, str) and _is_a_name(name))


def _is_a_name(text: str) -> bool:
    return bool(text) and "/" not in text and "\0" not in text and text not in {".", ".."}


def _places_of(root: Path, row: Recording) -> Iterator[Path]:
    """Paths in the folders that may be empty without this recording."""
    if row.path:
        pictures = _trickplay(below(root, row.path))
        yield from (folder / "any" for folder in (*pictures.glob("*"), pictures))
        yield below(root, row.path)
    if row.directory:
        yield below(root, row.directory) / "any"
