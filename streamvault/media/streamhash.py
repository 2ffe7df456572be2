"""A hash of the coded media that is the same for MPEG-TS, fragmented MP4 and MP4.

Containers wrap the same pictures differently: start codes or lengths, parameter sets and
delimiters inside or outside the stream, ADTS headers. A hash is taken of one of three forms:

- `packets`: as both sides have them.
- a habit of `start_codes`, such as `annexb`: the source's bytes as they are, so that hashing costs
  its pass next to nothing; for the MP4 the lengths are turned back into start codes.
- `slices`: what ffmpeg's bitstream filters leave of both sides, whatever their habits; twice the
  processor time.

It covers the payload only; wrong times need the other checks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from streamvault.errors import RemuxFailed

HASH = "murmur3"
PACKETS = "packets"
SLICES = "slices"
# Only coded slices: parameter sets, delimiters and SEI move between the stream and its header.
_VIDEO_FILTERS = {
    "h264": "h264_mp4toannexb,filter_units=pass_types=1-5",
    "hevc": "hevc_mp4toannexb,filter_units=pass_types=0-31",
}
NAL_CODECS = _VIDEO_FILTERS.keys()
_LINE = re.compile(r"\d+,([va]),(\w+=[0-9a-f]+)")
_KINDS = {"v": "video", "a": "audio"}


def hash_output(codecs: Mapping[str, str], form: str, target: Path) -> list[str]:
    """ffmpeg's arguments for an output that writes the hashes to `target`.

    `codecs` holds libav's codec names by `video` and `audio`. The filters pass through what is in
    the wanted form already.
    """
    args = ["-map", "0:v:0"] if "video" in codecs else []
    args += ["-map", "0:a:0"] if "audio" in codecs else []
    args += ["-c", "copy", "-copyinkf"]
    video_filter = _VIDEO_FILTERS.get(codecs.get("video", ""))
    if video_filter and form == SLICES:
        args += ["-bsf:v", video_filter]
    if codecs.get("audio") == "aac":
        args += ["-bsf:a", "aac_adtstoasc"]
    return [*args, "-f", "streamhash", "-hash", HASH, f"file:{target}"]


def read_hashes(path: Path) -> dict[str, str]:
    """The hashes ffmpeg wrote, such as `murmur3=4acc…`, by `video` and `audio`.

    Raises RemuxFailed when ffmpeg wrote none.
    """
    try:
        lines = path.read_text().splitlines()
    except OSError:
        lines = []
    found = [match for line in lines if (match := _LINE.fullmatch(line))]
    if not found:
        raise RemuxFailed("ffmpeg wrote no stream hash")
    return {_KINDS[match[1]]: match[2] for match in found}
