"""A recorder as a process of its own, to be killed: goes on with what is unfinished, else starts.

`python -m tests.streamvault.hls.recorder_process STATE_DIR RECORDING_DIR PLAYLIST_URL [FENCE]`,
where the playlist's session is a new one at every start. Ends when the recording ends; with code 3
when another one took it over.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from pathlib import Path

from streamvault.errors import CaptureReplaced
from streamvault.hls.captures import Captures
from streamvault.hls.fetch import Fetcher
from streamvault.hls.order import CaptureOrder
from streamvault.hls.writer import Disks
from streamvault.source import Playback, Transport, Wish
from tests.streamvault.hls.recording import QUICK, no_reader


async def record(state_dir: Path, directory: Path, base_url: str, fence: int) -> None:
    async def resolve(_wish: Wish) -> Playback:
        url = f"{base_url}/{uuid.uuid4().hex}/live.m3u8?token=secret"
        return Playback(url, Transport.HLS, "1080p60", "avc1,mp4a", "1920x1080")

    fetcher = Fetcher()
    captures = Captures(
        state_dir,
        resolve=resolve,
        open_reader=no_reader,
        fetcher=fetcher,
        disks=Disks(sync_every_s=0.2),
        thresholds=QUICK,
        min_free_bytes=0,
    )
    await captures.resume_all()
    order = CaptureOrder("r1", "hls://plain", "best", directory, 0.2, fence)
    capture = await captures.attach(order)
    try:
        await capture.task
    except CaptureReplaced:
        sys.exit(3)
    await captures.drain_all()
    await fetcher.aclose()


if __name__ == "__main__":
    asyncio.run(record(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(*sys.argv[4:])))
