"""Files of the library over HTTP, never anything outside it.

Paths come from the database and end in names made of titles, and a library is a folder that other
programs write to as well: each component is opened relative to its parent, and no link is followed,
so there is no moment between a check and the opening.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from anyio import to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send

from api.headers import FILE_SECURITY_POLICY
from api.problems import Problem
from streamvault.errors import NotFound

_HERE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class LibraryFile(FileResponse):
    """An open file as an answer: Range, If-Range, HEAD, ETag and If-None-Match; closes the file."""

    chunk_size = 256 * 1024

    def __init__(
        self,
        fd: int,
        media_type: str,
        filename: str,
        *,
        download: bool = False,
        at_most: int | None = None,
    ) -> None:
        """`at_most`: bytes; what is behind them is not there for anybody."""
        self._fd = fd
        super().__init__(
            # Opening it anew by number gives this same file, whatever its name means by now.
            f"/dev/fd/{fd}",
            media_type=media_type,
            filename=filename,
            stat_result=_limited(os.fstat(fd), at_most),
            content_disposition_type="attachment" if download else "inline",
            headers={
                "Cache-Control": "private, no-cache",
                "Content-Security-Policy": FILE_SECURITY_POLICY,
            },
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._is_known(Headers(scope=scope)):
                await self._not_modified()(scope, receive, send)
                return
            bad_range = _BadRange(send)
            await super().__call__(scope, receive, bad_range)
            await bad_range.finish(scope, receive)
        finally:
            os.close(self._fd)

    async def _handle_simple(self, send: Send, send_header_only: bool, send_pathsend: bool) -> None:
        """As Starlette does, but no further than the announced length: a part may be growing."""
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        left = 0 if send_header_only else int(self.headers["content-length"])
        async with self._open_file() as file:
            while left > 0 and (chunk := await file.read(min(self.chunk_size, left))):
                left -= len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _is_known(self, headers: Headers) -> bool:
        known = headers.get("if-none-match", "")
        tags = {tag.strip().removeprefix("W/") for tag in known.split(",")}
        return "*" in tags or self.headers["etag"] in tags

    def _not_modified(self) -> Response:
        kept = ("etag", "cache-control", "last-modified")
        return Response(status_code=304, headers={name: self.headers[name] for name in kept})


class _BadRange:
    """Holds back Starlette's plain text about a bad Range, for a problem document instead."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._refused: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] in (400, 416):
            self._refused = message
        if self._refused is None:
            await self._send(message)

    async def finish(self, scope: Scope, receive: Receive) -> None:
        if self._refused is None:
            return
        length = MutableHeaders(scope=self._refused).get("content-range")
        problem = Problem(
            self._refused["status"],
            "Range Not Satisfiable",
            "the file does not have these bytes",
            scope=scope,
            headers={"Content-Range": length} if length else None,
        )
        await problem(scope, receive, self._send)


async def library_file(
    libraries: Sequence[Path],
    relative: str,
    media_type: str,
    *,
    download: bool = False,
    at_most: int | None = None,
) -> LibraryFile:
    """Of the first library that has it. Raises NotFound when none has such a regular file."""
    fd = await to_thread.run_sync(_open_in, libraries, relative)
    name = PurePosixPath(relative).name
    return LibraryFile(fd, media_type, name, download=download, at_most=at_most)


def _open_in(libraries: Sequence[Path], relative: str) -> int:
    *others, last = libraries
    for library in others:
        with suppress(NotFound):
            return open_beneath(library, relative)
    return open_beneath(last, relative)


def _limited(found: os.stat_result, at_most: int | None) -> os.stat_result:
    if at_most is None or found.st_size <= at_most:
        return found
    return os.stat_result([*found[: stat.ST_SIZE], at_most, *found[stat.ST_SIZE + 1 :]])


def open_beneath(root: Path, relative: str) -> int:
    """A descriptor of a regular file below `root`; links are refused anywhere on the way.

    Raises NotFound, also for paths that try to leave."""
    names = relative.split("/")
    if any(name in {"", ".", ".."} for name in names):
        raise _missing(relative)
    try:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in names:
            fd = _step_into(fd, name)
    # ValueError: text that no file name can be, such as a NUL or half a character.
    except (OSError, ValueError):
        raise _missing(relative) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _missing(relative)
    return fd


def _step_into(parent: int, name: str) -> int:
    try:
        return os.open(name, _HERE, dir_fd=parent)
    finally:
        os.close(parent)


def _missing(relative: str) -> NotFound:
    return NotFound(
        f"the library has no file {PurePosixPath(relative).name[:100]!r}",
        hint="was it moved or deleted outside StreamVault?",
    )
