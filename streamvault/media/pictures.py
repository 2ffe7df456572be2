"""Small pictures from strangers: decoded, shrunk and encoded anew in a child process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streamvault.errors import MediaError
from streamvault.media.ffmpeg import run_python_child

CHILD = "streamvault.media.pictures_child"
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Shrunk:
    """`name` is that of a WebP file, made from a hash of its bytes; empty with a problem."""

    name: str = ""
    problem: str = ""


async def shrink(
    sources: Sequence[Path], folder: Path, *, timeout_s: float = TIMEOUT_S
) -> list[Shrunk]:
    """One result per source, in order; the files are in `folder` when this returns.

    A picture that makes the decoder crash or hang spoils no other."""
    try:
        return await _ask(sources, folder, timeout_s)
    except MediaError as error:
        if len(sources) == 1:
            return [Shrunk(problem=error.one_line)]
    alone = [await shrink([source], folder, timeout_s=timeout_s) for source in sources]
    return [result for results in alone for result in results]


async def write_jpeg(source: Path, target: Path, *, timeout_s: float = TIMEOUT_S) -> None:
    """The same picture as a JPEG, which every media server shows. Raises MediaError."""
    request = {"sources": [str(source)], "jpeg": str(target)}
    told = await run_python_child(CHILD, request, timeout_s=timeout_s)
    if problem := told["results"][0].get("problem"):
        raise MediaError(f"{source.name}: {problem}")


async def _ask(sources: Sequence[Path], folder: Path, timeout_s: float) -> list[Shrunk]:
    request = {"sources": [str(source) for source in sources], "folder": str(folder)}
    answer = await run_python_child(CHILD, request, timeout_s=timeout_s)
    return [Shrunk(**result) for result in answer["results"]]
