"""The journal of one recording: append-only facts about its parts, readable after any crash.

One `journal.jsonl` covers all parts of a recording's directory. A line counts only if its CRC is
right, and the first bad line ends the journal, so that whatever a power cut leaves behind reads as
a shorter but true journal. The order of writes makes that hold: data first, then the record of it,
then (every few seconds) fdatasync of the data, the `Synced` record, fdatasync of the journal.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from streamvault.hls.records import PartOpened, Record, Synced, Unknown, decode, encode

JOURNAL_NAME = "journal.jsonl"

_JOURNAL_MODE = 0o600  # It holds playlist addresses with their tokens.
_PART_MODE = 0o644


def datasync(fd: int) -> None:
    """Make a file's bytes durable; macOS has no fdatasync."""
    if sys.platform == "linux":
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def open_part(directory: Path, part: PartOpened) -> int:
    """Descriptor for writing a part, created if it is not there. Raises OSError."""
    path = directory / part.file_name
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _PART_MODE)


def place_part(directory: Path, part: PartOpened, elsewhere: Path) -> None:
    """Let a part that is to be opened lie in another folder: here is a link to it. Raises OSError.

    A folder cannot be on two disks, and whoever reads a recording finds its parts here."""
    elsewhere.mkdir(parents=True, exist_ok=True)
    path = directory / part.file_name
    remove_part(path)
    path.symlink_to(elsewhere.absolute() / part.file_name)


def remove_part(path: Path) -> None:
    """And what it links to, if it lies elsewhere. Raises OSError."""
    if path.is_symlink():
        path.readlink().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


class Journal:
    """The writing end. Run `recover` on the directory first: it removes what a crash left torn.

    All methods may be called from any thread and raise OSError; a failed append leaves no trace
    in the file.
    """

    def __init__(self, directory: Path, part_number: int = 0) -> None:
        """Open or create the journal; `part_number` is the part it was in when it was closed."""
        self._directory = directory
        self._part_number = part_number
        self._lock = threading.Lock()
        self._fd = os.open(
            directory / JOURNAL_NAME,
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
            _JOURNAL_MODE,
        )
        self._size_bytes = os.fstat(self._fd).st_size
        # The directory's entry for a new file is not durable before the directory is synced.
        self._new_names = True

    def append(self, record: Record) -> None:
        """Add a record; its bytes are in the page cache afterwards, so a SIGKILL cannot lose it.

        Use `append_synced` for Synced and `rotate` for PartOpened.
        """
        line = encode(record)
        with self._lock:
            self._write(line)

    def append_synced(self, part_number: int, offset: int) -> bool:
        """Note that this part is durable up to `offset`; False if another part is open by now.

        Its offset would otherwise be read as one of the newer part.
        """
        line = encode(Synced(offset))
        with self._lock:
            if part_number != self._part_number:
                return False
            self._write(line)
        return True

    def rotate(self, part: PartOpened, old_fd: int | None, old_end: int) -> int:
        """Begin a part and return its descriptor; the old one is cut at `old_end` and made durable.

        The order (old data, Synced, PartOpened, file) is what lets recovery trust every part but
        the newest. The old descriptor stays the caller's to close.
        """
        line = encode(part)
        if old_fd is not None:
            os.ftruncate(old_fd, old_end)
            datasync(old_fd)
            self._sync_names()
        with self._lock:
            if old_fd is not None:
                self._write(encode(Synced(old_end)))
            self._write(line)
            self._part_number = part.number
            self._new_names = True
        return open_part(self._directory, part)

    def sync(self) -> None:
        """Make all appended records durable, and the names of new files."""
        datasync(self._fd)
        self._sync_names()

    def close(self) -> None:
        os.close(self._fd)

    def _sync_names(self) -> None:
        if self._new_names:
            self._new_names = False
            sync_directory(self._directory)

    def _write(self, line: bytes) -> None:
        written = os.write(self._fd, line)
        if written != len(line):
            # A full disk takes part of a line; what came later would be unreadable behind it.
            os.ftruncate(self._fd, self._size_bytes)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._directory))
        self._size_bytes += written


def renew_journal(directory: Path) -> None:
    """Give the journal a file of its own, which a process that still has the old one open cannot
    reach. Raises OSError."""
    path = directory / JOURNAL_NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    new = path.with_suffix(".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _JOURNAL_MODE)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        datasync(file.fileno())
    new.replace(path)
    sync_directory(directory)


def sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class JournalRead:
    """What of a journal is intact."""

    records: list[Record]
    offsets: list[int]
    """Where in the file each record's line starts."""
    valid_bytes: int
    """End of the last intact line: where to read on, or to cut."""
    bad_tail_bytes: int


def read_journal(path: Path, start: int = 0) -> JournalRead:
    """Read the intact records from byte `start` (a former `valid_bytes`) to the first bad line.

    No such file reads as empty. A line that is still being written counts as a bad tail. Records
    of kinds that only a newer release knows are left out.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            content = file.read()
    except FileNotFoundError:
        content = b""
    records: list[Record] = []
    offsets: list[int] = []
    at = 0
    while (end := content.find(b"\n", at)) >= 0:
        record = decode(content[at:end])
        if record is None:
            break
        if not isinstance(record, Unknown):
            records.append(record)
            offsets.append(start + at)
        at = end + 1
    return JournalRead(records, offsets, start + at, len(content) - at)
