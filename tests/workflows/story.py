"""What happens to a stream when nothing goes wrong."""

from __future__ import annotations

from tests.workflows.stage import Stage

RECORDED = ["detect", "claim", "record", "seal"]
PROCESSED = ["remux", "thumbnails", "chapters", "sidecars", "announce"]


async def recording(stage: Stage, session: int = 1) -> None:
    """The story up to the point where a session is being recorded."""
    if session == 1:
        await stage.go_live()
    await stage.until(lambda: len(stage.cast.recording.sessions) == session)
