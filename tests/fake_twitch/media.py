"""The pictures and sounds: one pool per profile, made once by ffmpeg and then only moved in time.

A pool is 64 s of `testsrc2` and a sine tone, cut at each second's keyframe into units. The number
of each frame is burned into the top row as 16 black or white blocks, lowest bit left, so that a
lost or doubled frame can be seen in the pixels (`frames.py` reads them). A stream longer than the
pool starts over at unit 0: the burned numbers start over too, while PTS, DTS, PCR and continuity
counters go on (64 s is a whole number of AAC frames and of sine cycles, so nothing jumps). A null
packet at the end of each segment names it, so no two served segments are the same bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import mmap
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import imageio_ffmpeg

from tests.fake_twitch import fmp4, mpegts

POOL_S = 64
FRAME_RATE = 30
LEAD_S = 2  # The encoder's priming and its last frames are cut off, so that the pool is periodic.
BLOCKS = 16
AD_BIT = 1 << (BLOCKS - 1)
UNIT_TICKS = mpegts.TICKS_PER_S


@dataclass(frozen=True)
class Profile:
    """How one pool is encoded. `bitrate_bps` 0 leaves it to the encoder, else CBR with filler."""

    name: str
    width: int
    height: int
    codec: str = "h264"
    container: str = "ts"
    bitrate_bps: int = 0
    audio_only: bool = False
    ad: bool = False

    @property
    def block_px(self) -> int:
        """Side of one block of the burned frame number."""
        return self.width // (BLOCKS + 4)


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("180p", 320, 180),
        Profile("120p", 212, 120),
        Profile("audio", 320, 180, audio_only=True),
        Profile("ad", 320, 180, ad=True),
        Profile("720p", 1280, 720),
        Profile("6mbit", 640, 360, bitrate_bps=6_000_000),
        Profile("180p-fmp4", 320, 180, container="fmp4"),
        Profile("ad-fmp4", 320, 180, container="fmp4", ad=True),
        Profile("180p-hevc", 320, 180, codec="hevc", container="fmp4"),
        Profile("180p-av1", 320, 180, codec="av1", container="fmp4"),
    )
}


FAST = ("-preset", "ultrafast")


class Pool:
    """The units of one profile, mapped from disk."""

    def __init__(self, profile: Profile, folder: Path) -> None:
        self.profile = profile
        index = json.loads((folder / "index.json").read_text())
        self.units: list[tuple[int, int]] = [(start, size) for start, size in index["units"]]
        self.codecs: str = index["codecs"]
        self.init = (folder / "init.mp4").read_bytes() if profile.container == "fmp4" else b""
        with (folder / "media").open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @property
    def is_ts(self) -> bool:
        return self.profile.container == "ts"

    @cached_property
    def bandwidth_bps(self) -> int:
        """Peak bit rate over one unit."""
        return 8 * max(size for _, size in self.units)

    @cached_property
    def _timescales(self) -> dict[int, int]:
        return fmp4.timescales(self.init)

    @cached_property
    def counters_per_round(self) -> Counter[int]:
        start, _ = self.units[0]
        end = sum(self.units[-1])
        return mpegts.continuity_counts(self._data[start:end])

    def unit(self, index: int, ticks: int) -> bytes:
        """Unit `index` of an endless stream, `ticks` (90 kHz) later than its place says."""
        rounds, place = divmod(index, len(self.units))
        start, size = self.units[place]
        data = self._data[start : start + size]
        ticks += rounds * len(self.units) * UNIT_TICKS
        if not self.is_ts:
            return fmp4.shift(data, ticks, self._timescales, sequence=index + 1)
        steps = {pid: count * rounds % 16 for pid, count in self.counters_per_round.items()}
        return mpegts.shift(data, ticks, steps)

    def segment(self, first: int, units: int, ticks: int, name: str) -> bytes:
        """`units` units from `first` on, with a mark at the end that holds `name`."""
        stamp = mpegts.stamp(name) if self.is_ts else fmp4.stamp(name)
        return b"".join(self.unit(first + i, ticks) for i in range(units)) + stamp

    def frame_number(self, index: int) -> int:
        """The number burned into the first frame of unit `index`."""
        number = (index % len(self.units) + LEAD_S) * FRAME_RATE
        return number | AD_BIT if self.profile.ad else number


class Pools:
    """Pools by profile name, made when first asked for and kept in `folder` for later."""

    def __init__(self, folder: Path, ffmpeg: str) -> None:
        self._folder = folder
        self._ffmpeg = ffmpeg
        self._open: dict[str, Pool] = {}

    def __getitem__(self, name: str) -> Pool:
        if name not in self._open:
            self._open[name] = self._load(PROFILES[name])
        return self._open[name]

    def _load(self, profile: Profile) -> Pool:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        digest = hashlib.sha256(" ".join(_arguments(profile)).encode()).hexdigest()[:12]
        home = self._folder / f"{profile.name}-{digest}"
        # Two test processes may want the same pool at once; the second one waits for the first.
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not home.exists():
                self._make(profile, home)
        return Pool(profile, home)

    def _make(self, profile: Profile, home: Path) -> None:
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="making-") as scratch:
            folder = Path(scratch) / "pool"
            folder.mkdir()
            command = [self._ffmpeg, "-nostdin", "-hide_banner", "-loglevel", "error", "-y"]
            subprocess.run([*command, *_arguments(profile)], cwd=folder, check=True)
            _index(profile, folder)
            folder.rename(home)


def find_ffmpeg(asked: str = "") -> str:
    """The ffmpeg asked for, else the system's, else the one from the wheel."""
    return asked or shutil.which("ffmpeg") or imageio_ffmpeg.get_ffmpeg_exe()


def _arguments(profile: Profile) -> list[str]:
    seconds = str(LEAD_S + POOL_S + LEAD_S)
    source = f"testsrc2=size={profile.width}x{profile.height}:rate={FRAME_RATE}"
    tone = f"sine=frequency={880 if profile.ad else 440}:sample_rate=48000"
    inputs = ["-f", "lavfi", "-i", source, "-f", "lavfi", "-i", tone, "-t", seconds]
    audio = ["-c:a", "aac", "-b:a", "96k", "-ac", "2"]
    return [*inputs, *_video(profile), *audio, *_muxer(profile)]


def _video(profile: Profile) -> list[str]:
    if profile.audio_only:
        return ["-map", "1:a"]
    keyframes = f"-g {FRAME_RATE} -keyint_min {FRAME_RATE} -sc_threshold 0 -bf 2 -pix_fmt yuv420p"
    return ["-vf", _blocks(profile), *_encoder(profile.codec), *keyframes.split(), *_rate(profile)]


def _encoder(codec: str) -> list[str]:
    match codec:
        case "hevc":
            own = f"log-level=error:keyint={FRAME_RATE}:min-keyint={FRAME_RATE}:scenecut=0"
            own += ":open-gop=0"
            return ["-c:v", "libx265", "-tag:v", "hvc1", "-x265-params", own, *FAST]
        case "av1":
            return ["-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", "-row-mt", "1"]
        case _:
            return ["-c:v", "libx264", *FAST]


def _rate(profile: Profile) -> list[str]:
    if not profile.bitrate_bps:
        return []
    rate = str(profile.bitrate_bps - 260_000)  # What is left is audio and the container.
    return [
        "-b:v",
        rate,
        "-minrate",
        rate,
        "-maxrate",
        rate,
        "-bufsize",
        rate,
        "-x264-params",
        "nal-hrd=cbr",
    ]


def _blocks(profile: Profile) -> str:
    side = profile.block_px
    boxes = [f"drawbox=x=0:y=0:w=iw:h={side}:color=black:t=fill"]
    for bit in range(BLOCKS):
        when = f"gte(mod(n,{2 << bit}),{1 << bit})"
        if 1 << bit == AD_BIT:
            when = str(int(profile.ad))
        box = f"drawbox=x={bit * side}:y=0:w={side}:h={side}:color=white:t=fill:enable='{when}'"
        boxes.append(box)
    return ",".join(boxes)


def _muxer(profile: Profile) -> list[str]:
    common = "-f hls -hls_time 1 -hls_list_size 0 -hls_flags single_file"
    if profile.container == "fmp4":
        common += " -hls_segment_type fmp4"
    return [*common.split(), "-hls_segment_filename", "media", "index.m3u8"]


def _index(profile: Profile, folder: Path) -> None:
    """Write where each unit begins, and the codecs as RFC 6381 names them."""
    playlist = (folder / "index.m3u8").read_text()
    found = re.findall(r"#EXT-X-BYTERANGE:(\d+)@(\d+)", playlist)
    units = [(int(start), int(size)) for size, start in found][LEAD_S : LEAD_S + POOL_S]
    media = (folder / "media").read_bytes()
    if profile.container == "fmp4":
        (folder / "init.mp4").write_bytes(media[: int(found[0][1])])
    codecs = _codecs(profile, media)
    (folder / "index.json").write_text(json.dumps({"units": units, "codecs": codecs}))


def _codecs(profile: Profile, media: bytes) -> str:
    if profile.audio_only:
        return "mp4a.40.2"
    if profile.container == "fmp4":
        return f"{fmp4.codec(media)},mp4a.40.2"
    # The sequence parameter set: NAL header 0x67, then profile, constraints, level.
    at = media.index(b"\0\0\1\x67") + 4
    return f"avc1.{media[at : at + 3].hex().upper()},mp4a.40.2"
