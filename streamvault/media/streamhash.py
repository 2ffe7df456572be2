"""A hash of the coded media that is the same for MPEG-TS, fragmented MP4 and MP4.

Containers wrap the same pictures differently: start codes or lengths, parameter sets and
delimiters inside or outside the stream, ADTS headers. Bitstream filters bring both sides to one
form first. It covers the payload only; wrong times need the other checks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from streamvault.errors import RemuxFailed

# Only coded slices: parameter sets, delimiters and SEI move between the stream and its header.
_VIDEO_FILTERS = {
    "h264": "h264_mp4toannexb,filter_units=pass_types=1-5",
    "hevc": "hevc_mp4toannexb,filter_units=pass_types=0-31",
}
_LINE = re.compile(r"\d+,([va]),(\w+=[0-9a-f]+)")
_KINDS = {"v": "video", "a": "audio"}


def hash_output(codecs: Mapping[str, str], target: Path) -> list[str]:
    """ffmpeg's arguments for a second output that writes the hashes to `target`.

    `codecs` holds libav's codec names by `video` and `audio`. Both filters pass through what is
    in the wanted form already.
    """
    args = ["-map", "0:v:0"] if "video" in codecs else []
    args += ["-map", "0:a:0"] if "audio" in codecs else []
    args += ["-c", "copy", "-copyinkf"]
    if video_filter := _VIDEO_FILTERS.get(codecs.get("video", "")):
        args += ["-bsf:v", video_filter]
    if codecs.get("audio") == "aac":
        args += ["-bsf:a", "aac_adtstoasc"]
    return [*args, "-f", "streamhash", "-hash", "murmur3", f"file:{target}"]


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
