"""What a finished remux was, kept beside the parts, so that an order is not carried out twice."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from streamvault.media.verify import Check, Expected, SourcePart, Verification


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


def write_receipt(result: RemuxResult, fingerprint: str) -> str:
    """JSON; `fingerprint` stands for everything the file depends on."""
    return json.dumps(
        {"fingerprint": fingerprint} | dataclasses.asdict(result), default=str, indent=1
    )


def read_receipt(path: Path, fingerprint: str, final: Path) -> RemuxResult | None:
    """The result of the same order, if its file is still there with the size it had."""
    try:
        stored = json.loads(path.read_text())
        same = stored.pop("fingerprint") == fingerprint
        if not same or final.stat().st_size != stored["size_bytes"]:
            return None
    except (OSError, ValueError, KeyError):
        return None
    expected, verification = stored.pop("expected"), stored.pop("verification")
    parts = [SourcePart(**(part | {"path": Path(part["path"])})) for part in expected.pop("parts")]
    checks = tuple(Check(**check) for check in verification["checks"])
    return RemuxResult(
        **(stored | {"path": final, "warnings": tuple(stored["warnings"]), "reused": True}),
        expected=Expected(**expected, parts=tuple(parts)),
        verification=Verification(checks, verification["stream_hash"]),
    )
