"""Reads the frame numbers that `media.py` burned in, from any video that shows the same picture."""

from __future__ import annotations

from pathlib import Path

import av

from tests.fake_twitch.media import AD_BIT, BLOCKS, FRAME_RATE, LEAD_S, POOL_S


def frame_numbers(video: Path) -> list[int]:
    """The burned number of each frame, in the order of presentation."""
    with av.open(str(video)) as container:
        return [_number(frame) for frame in container.decode(video=0)]


def expected_numbers(first: int, count: int) -> list[int]:
    """`count` numbers from `first` on; after the pool's last frame they start over."""
    lead = LEAD_S * FRAME_RATE
    return [lead + (first - lead + i) % (POOL_S * FRAME_RATE) for i in range(count)]


def is_ad(number: int) -> bool:
    return bool(number & AD_BIT)


def _number(frame: av.VideoFrame) -> int:
    luma = frame.planes[0]
    side = frame.width // (BLOCKS + 4)
    row = memoryview(luma)[side // 2 * luma.line_size :]
    return sum((row[bit * side + side // 2] > 128) << bit for bit in range(BLOCKS))
