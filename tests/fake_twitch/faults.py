"""What goes wrong on purpose: rules that the control routes add, and the answers they lead to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from itertools import count

from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

KINDS = frozenset(
    {
        "status",  # answers `status` with `body`
        "html",  # 200 and a page
        "hang",  # nothing for `seconds`, then the connection ends
        "slow",  # the usual answer, `seconds` late
        "trickle",  # the usual body, spread over `seconds`
        "truncated",  # the connection ends after `fraction` of the body
        "reset",  # the connection ends without an answer
        "corrupt",  # the usual length, some bytes flipped
        "empty",  # 200 without a body
        "frozen",  # playlist: stays as it was when the fault was first met
        "loop",  # playlist: numbers go on, but the last `segments` segments come round again
        "wrong_type",  # 200 and JSON of another shape
        "absent",  # Get Streams: nobody is live, or not the one whose channel is given
    }
)
TARGETS = frozenset({"gql", "usher", "playlist", "segment", "helix", "eventsub", "auth", "any"})
"""Services have parts, such as `helix.streams`; the whole holds them all."""
KEEPS = frozenset({"frozen", "loop", "slow", "trickle", "truncated", "corrupt"})
"""Kinds that start from the usual answer, so that the request has to be carried out."""
PAGE = "<!DOCTYPE html><html><head><title>Sorry</title></head><body>Sorry.</body></html>"


class Refused(ValueError):
    """A control request that makes no sense; the text says why."""


@dataclass
class Fault:
    """One rule. It ends after `count` hits, or `seconds_left` seconds, or never (0)."""

    id: int
    target: str
    kind: str
    channel: str = ""
    numbers: tuple[int, ...] = ()
    """Segments that it is about; empty is all."""
    variant: str = ""
    count: int = 0
    until: float = 0
    """Monotonic time; 0 is never."""
    status: int = 404
    body: str = ""
    seconds: float = 30
    """How long it takes; of a 429: how far away the reset is."""
    method: str = ""
    client_id: str = ""
    applied: bool = False
    """The request is carried out, and only its answer is lost."""
    fraction: float = 0.5
    segments: int = 5
    hits: int = 0
    met_at: dict[str, int] = field(default_factory=dict)
    """Frozen and loop: the end of each channel's list when the fault was first met."""

    @property
    def carries_out(self) -> bool:
        return self.applied or self.kind in KEEPS

    def about(self, target: str, channel: str, variant: str, number: int | None) -> bool:
        return (
            (self.target in (target, "any") or target.startswith(f"{self.target}."))
            and self.channel in ("", channel)
            and self.variant in ("", variant)
            and (not self.numbers or number in self.numbers)
            and (not self.count or self.hits < self.count)
            and (not self.until or time.monotonic() < self.until)
        )


class Faults:
    """The plan. The first rule that fits wins."""

    def __init__(self) -> None:
        self.rules: dict[int, Fault] = {}
        self._ids = count(1)

    def add(self, target: str, kind: str, *, duration_s: float = 0, **fields: object) -> Fault:
        if target.partition(".")[0] not in TARGETS or kind not in KINDS:
            raise Refused(f"target is one of {sorted(TARGETS)}, kind one of {sorted(KINDS)}")
        if isinstance(numbers := fields.get("numbers"), Iterable):
            fields["numbers"] = tuple(numbers)
        until = time.monotonic() + duration_s if duration_s else 0
        try:
            fault = Fault(next(self._ids), target, kind, until=until, **fields)  # type: ignore[arg-type]
        except TypeError as error:
            raise Refused(str(error)) from None
        self.rules[fault.id] = fault
        return fault

    def hit(
        self, target: str, channel: str = "", variant: str = "", number: int | None = None
    ) -> Fault | None:
        """The rule for this request, counted."""
        for fault in self.rules.values():
            asks = fault.method or fault.client_id
            if not asks and fault.about(target, channel, variant, number):
                fault.hits += 1
                return fault
        return None

    def hit_call(self, target: str, method: str, client_id: str) -> Fault | None:
        """The rule for a call of one of the services, counted."""
        for fault in self.rules.values():
            fits = fault.method in ("", method) and fault.client_id in ("", client_id)
            if fits and not fault.channel and fault.about(target, "", "", None):
                fault.hits += 1
                return fault
        return None


async def answer(fault: Fault | None, usual: Response) -> Response:
    """The answer that the fault makes of the usual one."""
    if fault is None or fault.kind in ("frozen", "loop"):
        return usual
    if fault.kind in ("slow", "hang"):
        await asyncio.sleep(fault.seconds)
    if fault.kind == "slow":
        return usual
    return _instead(fault, usual)


def _instead(fault: Fault, usual: Response) -> Response:
    body = bytes(usual.body)
    match fault.kind:
        case "status":
            return Response(fault.body, fault.status)
        case "html":
            return Response(PAGE, media_type="text/html")
        case "wrong_type":
            return JSONResponse(["this", 1, "is", None])
        case "absent":
            return JSONResponse({"data": [], "pagination": {}})
        case "empty":
            return Response(b"", media_type=usual.media_type)
        case "corrupt":
            return Response(_flip(body), media_type=usual.media_type)
        case "trickle":
            return _promise(_trickle(body, fault.seconds), usual)
        case "truncated":
            return _promise(_cut(body[: int(len(body) * fault.fraction)]), usual)
        case _:
            return ResetResponse()


class ConnectionCut(Exception):
    """Ends a connection in the middle; the server closes it when a handler raises."""


class ResetResponse(Response):
    """No answer at all: the connection is reset."""

    async def __call__(self, _: Scope, receive: Receive, __: Send) -> None:
        # ASGI knows no way to say this; in uvicorn `receive` is a method of what has the transport.
        receive.__self__.transport.abort()  # type: ignore[attr-defined]


def _promise(pieces: AsyncIterator[bytes], usual: Response) -> StreamingResponse:
    length = {"content-length": str(len(usual.body))}
    return StreamingResponse(pieces, headers=length, media_type=usual.media_type)


async def _trickle(body: bytes, seconds: float) -> AsyncIterator[bytes]:
    steps = 20
    size = len(body) // steps + 1
    for start in range(0, len(body), size):
        yield body[start : start + size]
        await asyncio.sleep(seconds / steps)


async def _cut(part: bytes) -> AsyncIterator[bytes]:
    yield part
    # What was sent so far has to leave before the connection ends.
    await asyncio.sleep(0.05)
    raise ConnectionCut


def _flip(body: bytes) -> bytes:
    """The same length, one byte in every 5,000 inverted, beginning in the middle of the first."""
    damaged = bytearray(body)
    for at in range(min(2_500, len(body) // 2), len(body), 5_000):
        damaged[at] ^= 0xFF
    return bytes(damaged)
