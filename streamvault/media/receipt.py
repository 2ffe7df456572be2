"""What a finished remux was, kept beside the parts, so that an order is not carried out twice."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamvault.media.chapters import Chapter
from streamvault.media.probe import Step
from streamvault.media.verify import Check, Expected, Holes, Verification


@dataclass(frozen=True, slots=True)
class RemuxResult:
    """One verified final file."""

    path: Path
    size_bytes: int
    duration_s: float
    """By the journal, holes kept."""
    expected: Expected
    """Of the source: packets, stream hash, codecs; what `verify` takes again later."""
    verification: Verification
    chapters: tuple[Chapter, ...]
    """Of the whole recording, on the clock of its files."""
    video: str
    """Such as `h264 1920x1080`, empty without video."""
    audio: str
    passes: int
    """1, or 2 when the room for the index was too small."""
    command: str
    """ffmpeg's version and arguments, for the report; no path in it."""
    warnings: tuple[str, ...] = ()
    reused: bool = False
    """The file was there already, from the same parts."""


def expected_to_json(expected: Expected) -> dict[str, Any]:
    """For a receipt or a report; without the parts, which a later check does not need."""
    return dataclasses.asdict(dataclasses.replace(expected, parts=()))


def expected_from_json(stored: Mapping[str, Any]) -> Expected:
    """The other way. Raises KeyError or TypeError when it is of another shape."""
    holes = stored["holes"] and _holes_from_json(stored["holes"])
    return Expected(**{**stored, "parts": (), "holes": holes})


def write_receipt(result: RemuxResult, fingerprint: str) -> str:
    """JSON; `fingerprint` stands for everything the file depends on."""
    stored = dataclasses.asdict(result) | {"expected": expected_to_json(result.expected)}
    return json.dumps({"fingerprint": fingerprint} | stored, default=str, indent=1)


def name_in_receipt(path: Path) -> Path | None:
    """Where the file was put that this receipt is of; None if there is none that can be read."""
    try:
        return Path(json.loads(path.read_text())["path"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_receipt(path: Path, fingerprint: str, final: Path) -> RemuxResult | None:
    """The result of the same order, if its file is still there with the size it had."""
    try:
        stored = json.loads(path.read_text())
        same = stored.pop("fingerprint") == fingerprint
        if not same or final.stat().st_size != stored["size_bytes"]:
            return None
        return _result_from_json(stored, final)
    except (OSError, ValueError, KeyError, TypeError):
        # No receipt, or one of another release: the file is made again.
        return None


def _result_from_json(stored: dict[str, Any], final: Path) -> RemuxResult:
    expected, verification = stored.pop("expected"), stored.pop("verification")
    chapters = stored.pop("chapters")
    checks = tuple(Check(**check) for check in verification["checks"])
    holes = verification["holes"] and _holes_from_json(verification["holes"])
    return RemuxResult(
        **(stored | {"path": final, "warnings": tuple(stored["warnings"]), "reused": True}),
        chapters=tuple(Chapter(**chapter) for chapter in chapters),
        expected=expected_from_json(expected),
        verification=Verification(checks, verification["stream_hash"], holes),
    )


def _holes_from_json(stored: Mapping[str, Any]) -> Holes:
    steps = {kind: tuple(Step(**s) for s in steps) for kind, steps in stored["steps"].items()}
    return Holes(steps, stored["ends_apart_s"])
