from __future__ import annotations

import asyncio

from streamvault.contracts import CaptureEnd
from tests.streamvault.hls.recording import (
    Recorder,
    gaps,
    part_bytes,
    stored,
    whys,
)


async def test_everything_listed_is_stored_byte_for_byte_until_the_end(recorder: Recorder) -> None:
    source = recorder.source()
    source.channel.publish(5)
    capture = recorder.start(source)
    await stored(capture, 5)
    for _ in range(15):
        source.channel.publish()
        await asyncio.sleep(0.03)
    source.channel.ended = True
    source.offline = True
    result = await capture.task
    assert result.end is CaptureEnd.ENDED
    assert result.segments == 20
    assert part_bytes(recorder.folder) == [b"".join(source.channel.bodies())]
    assert whys(recorder.folder) == ["start"]
    assert gaps(recorder.folder) == []
