"""The only place that spawns media processes: ffmpeg itself, and Python children that load libav.

A crash in libav takes its whole process down, and the recorder must not share that fate; so PyAV,
too, runs in a child. Every child has its own process group, no standard input from the terminal,
a small environment without our secrets, a lower priority, and dies with us.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio_ffmpeg

from streamvault.errors import MediaError, RemuxFailed, ToolMissing
from streamvault.media.child import SHARE
from streamvault.media.stderr import Digest

OLDEST_VERSION = (5, 1)
STALL_TIMEOUT_S = 120.0  # a hung remux must never block the ones behind it
STOP_GRACE_S = 10.0  # ffmpeg closes its file on SIGTERM within this, or is killed
TICK_S = 1.0
SELF_TEST = Path(__file__).with_name("selftest.ts")
GLOBAL_ARGS = (
    *("-hide_banner", "-nostdin", "-y", "-nostats", "-stats_period", "1", "-progress", "pipe:1"),
    # "verbose" is the level at which ffmpeg tells how many packets it read, per stream.
    *("-loglevel", "level+verbose"),
)


@dataclass(frozen=True, slots=True)
class Ffmpeg:
    """A usable ffmpeg by its absolute path; `version` as it prints it (`5.1.9-0+deb12u1`)."""

    path: Path
    version: str


@dataclass(frozen=True, slots=True)
class Progress:
    """What ffmpeg says of a run under way; `None` where it says N/A."""

    total_size: int = 0
    """Bytes of the first output so far."""
    out_time_s: float | None = None
    speed: float | None = None
    """Media seconds per second."""


@dataclass(frozen=True, slots=True)
class RunResult:
    returncode: int
    warnings: tuple[str, ...]
    """Distinct warnings and errors, oldest first, with a count behind those that repeat."""
    non_monotonic: int
    """How often ffmpeg met a decode time that does not rise."""
    corrupt: int
    """Packets marked corrupt, normal at a hole inside a part."""
    packets_read: dict[str, int]
    """Packets of the first input, by `video` and `audio`."""
    log_tail: str
    """The last 64 KB of standard error."""


ProgressCallback = Callable[[Progress], None]
ShareCallback = Callable[[float], None]


def find_ffmpeg(setting: Path | None = None) -> Ffmpeg:
    """The ffmpeg to use: the setting, else a system one of 5.1 or newer, else the wheel's.

    Blocks for some 50 ms. Raises ToolMissing.
    """
    if setting is not None:
        return _named_ffmpeg(setting)
    system = shutil.which("ffmpeg")
    found = _version_of(Path(system)) if system else None
    if system and found and _is_recent(found):
        return Ffmpeg(Path(system).absolute(), found)
    return _wheel_ffmpeg(found)


def _named_ffmpeg(path: Path) -> Ffmpeg:
    version = _version_of(path)
    if version is None:
        raise ToolMissing(
            f"{path} is not an ffmpeg that runs here", hint="correct STREAMVAULT_FFMPEG or unset it"
        )
    return Ffmpeg(path.absolute(), version)


def _wheel_ffmpeg(system_version: str | None) -> Ffmpeg:
    hint = "install ffmpeg 5.1 or newer, or name one with STREAMVAULT_FFMPEG"
    try:
        path = Path(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        seen = f"ffmpeg {system_version} is too old" if system_version else "no ffmpeg found"
        raise ToolMissing(seen, hint=hint) from None
    version = _version_of(path)
    if version is None:
        raise ToolMissing("the ffmpeg of the imageio-ffmpeg wheel does not run here", hint=hint)
    return Ffmpeg(path, version)


def _version_of(path: Path) -> str | None:
    try:
        shown = subprocess.run(
            [path, "-version"],
            stdin=DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"ffmpeg version (\S+)", shown.stdout)
    return match[1] if match else None


def _is_recent(version: str) -> bool:
    """Builds from git are named `N-12345-g…`; those are taken as recent."""
    match = re.match(r"n?(\d+)\.(\d+)", version)
    return match is None or (int(match[1]), int(match[2])) >= OLDEST_VERSION


async def self_test(ffmpeg: Ffmpeg) -> None:
    """Remux a shipped 2 s fixture to nowhere; some builds print a version and crash on any .ts.

    Raises ToolMissing.
    """
    args = ("-i", f"file:{SELF_TEST}", "-map", "0", "-c", "copy", "-f", "null", "-")
    try:
        result = await run(ffmpeg, args, stall_timeout_s=30)
    except RemuxFailed as error:
        raise ToolMissing(f"{ffmpeg.path} hangs on a plain MPEG-TS file") from error
    if result.returncode or not result.packets_read.get("video"):
        raise ToolMissing(
            f"{ffmpeg.path} ({ffmpeg.version}) cannot read a plain MPEG-TS file: "
            f"{describe_exit(result.returncode)}",
            hint="name another ffmpeg with STREAMVAULT_FFMPEG",
        )


async def run(
    ffmpeg: Ffmpeg,
    args: Sequence[str],
    *,
    on_progress: ProgressCallback | None = None,
    cwd: Path | None = None,
    stall_timeout_s: float = STALL_TIMEOUT_S,
    watch: Path | None = None,
) -> RunResult:
    """Run ffmpeg to its end; the caller judges `returncode`, which proves little by itself.

    `on_progress` is called every second, also while ffmpeg is silent. Without growth of the output
    (or a write to `watch`) for `stall_timeout_s` the process is killed. Cancelling the awaiting
    task ends the whole process group first. Raises RemuxFailed, ToolMissing.
    """
    argv = [str(ffmpeg.path), *GLOBAL_ARGS, *args]
    return await _run_watched(
        argv, on_progress or _ignore, cwd, _Meter("ffmpeg", watch, stall_timeout_s)
    )


async def run_python_watched(
    module: str, args: Sequence[str], *, on_progress: ProgressCallback | None = None
) -> RunResult:
    """As `run`, but `python -m module`, which reports on standard output in ffmpeg's words."""
    argv = [sys.executable, "-P", "-m", module, *args]
    meter = _Meter(module.rpartition(".")[2], None, STALL_TIMEOUT_S)
    return await _run_watched(argv, on_progress or _ignore, None, meter)


async def _run_watched(
    argv: Sequence[str], on_progress: ProgressCallback, cwd: Path | None, meter: _Meter
) -> RunResult:
    process = await _spawn(argv, cwd=cwd, stdin=DEVNULL)
    assert process.stdout is not None and process.stderr is not None
    digest = Digest()
    readers = [
        asyncio.create_task(_each_line(process.stdout, meter.feed)),
        asyncio.create_task(_each_line(process.stderr, digest.feed)),
    ]
    try:
        await _wait(process, meter, on_progress)
        await asyncio.gather(*readers)
    finally:
        await _end(process, readers)
    assert process.returncode is not None
    return RunResult(
        process.returncode,
        digest.warnings,
        digest.count("non_monotonic"),
        digest.count("corrupt"),
        digest.packets_read,
        digest.tail,
    )


async def run_python_child(
    module: str,
    payload: Mapping[str, Any],
    *,
    timeout_s: float = 600.0,
    on_share: ShareCallback | None = None,
) -> dict[str, Any]:
    """Run `python -m module` with `payload` as JSON on its standard input; its answer, parsed.

    `on_share` hears from 0 to 1 how far it is.

    Raises MediaError when the child says what is wrong, crashes, or takes longer than `timeout_s`.
    """
    argv = [sys.executable, "-P", "-m", module]
    process = await _spawn(argv, cwd=None, stdin=PIPE)
    name = module.rpartition(".")[2]
    errors = _Errors(on_share)
    try:
        stdout = await asyncio.wait_for(_talk(process, payload, errors), timeout_s)
    except TimeoutError:
        raise MediaError(f"{name} hung for {timeout_s:.0f} s and was killed") from None
    finally:
        await _end(process, [])
    return _parse_answer(name, process.returncode or 0, stdout, errors.last)


class _Errors:
    """A child's standard error: how far it is, and the last line of what it complains about."""

    def __init__(self, on_share: ShareCallback | None) -> None:
        self._on_share = on_share
        self.last = "no message"

    def feed(self, line: str) -> None:
        if line.startswith(SHARE) and self._on_share:
            self._on_share(float(line.removeprefix(SHARE)))
        elif line.strip() and not line.startswith(SHARE):
            self.last = line.strip()


async def _talk(process: Process, payload: Mapping[str, Any], errors: _Errors) -> bytes:
    assert process.stdin and process.stdout and process.stderr
    # One that died before it read says why on standard error.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(json.dumps(payload).encode())
        await process.stdin.drain()
    process.stdin.close()
    reading = asyncio.create_task(_each_line(process.stderr, errors.feed))
    try:
        stdout = await process.stdout.read()
        await reading
    finally:
        reading.cancel()
    await process.wait()
    return stdout


def _parse_answer(name: str, returncode: int, stdout: bytes, last: str) -> dict[str, Any]:
    if returncode:
        raise MediaError(f"{name}: {describe_exit(returncode)}: {last[:500]}")
    answer: dict[str, Any] = json.loads(stdout)
    if "error" in answer:
        raise MediaError(f"{name}: {answer['error']}")
    return answer


def describe_exit(returncode: int) -> str:
    """An exit status in words, such as `killed by SIGSEGV`."""
    if returncode >= 0:
        return f"exit status {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"


class _Meter:
    """Follows `-progress` lines and tells when nothing has grown for too long."""

    def __init__(self, name: str, watch: Path | None, stall_timeout_s: float) -> None:
        self.name = name
        self._watch = watch
        self._stall_timeout_s = stall_timeout_s
        self._values: dict[str, str] = {}
        self._grown_at = time.monotonic()
        self._seen: tuple[object, ...] = ()

    def feed(self, line: str) -> None:
        key, _, value = line.partition("=")
        self._values[key.strip()] = value.strip()

    @property
    def progress(self) -> Progress:
        out_time_us = _number(self._values.get("out_time_us", ""))
        return Progress(
            total_size=int(_number(self._values.get("total_size", "")) or 0),
            out_time_s=None if out_time_us is None else out_time_us / 1e6,
            speed=_number(self._values.get("speed", "").rstrip("x")),
        )

    def stalled_s(self) -> float | None:
        """Seconds without growth once they reach the limit."""
        now = time.monotonic()
        signs = (self.progress.total_size, self.progress.out_time_s, _last_write(self._watch))
        if signs != self._seen:
            self._seen, self._grown_at = signs, now
        still = now - self._grown_at
        return still if still >= self._stall_timeout_s else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _last_write(path: Path | None) -> tuple[int, int]:
    """Size and time of the last write. The second pass of faststart writes in place, in silence."""
    try:
        stat = path.stat() if path else None
    except OSError:
        stat = None
    return (stat.st_size, stat.st_mtime_ns) if stat else (0, 0)


def _ignore(_: Progress) -> None: ...


async def _wait(process: Process, meter: _Meter, on_progress: ProgressCallback) -> None:
    ended = asyncio.create_task(process.wait())
    try:
        while not (await asyncio.wait({ended}, timeout=TICK_S))[0]:
            on_progress(meter.progress)
            if still := meter.stalled_s():
                raise RemuxFailed(f"{meter.name} hung: no output for {still:.0f} s, killed")
    finally:
        ended.cancel()
    on_progress(meter.progress)


async def _each_line(stream: asyncio.StreamReader, feed: Callable[[str], None]) -> None:
    """Feed whole lines; one that is longer than a block arrives in pieces, never as an error."""
    rest = b""
    while block := await stream.read(65536):
        *lines, rest = (rest + block).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            feed(line.decode(errors="replace"))
        if len(rest) > 65536:
            feed(rest.decode(errors="replace"))
            rest = b""
    if rest:
        feed(rest.decode(errors="replace"))


async def _spawn(argv: Sequence[str], *, cwd: Path | None, stdin: int) -> Process:
    try:
        return await asyncio.create_subprocess_exec(
            *_launcher(),
            *argv,
            cwd=cwd,
            env=_environment(),
            stdin=stdin,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise ToolMissing(f"{argv[0]} cannot be started: {error.strerror}") from error


def _environment() -> dict[str, str]:
    """Only what a child needs: a crash dump or a shell-out of it must not hold our secrets."""
    package_root = str(Path(__file__).parents[2])
    return {
        "PATH": os.defpath,
        "LC_ALL": "C",
        "PYTHONPATH": package_root,
        "PYTHONUTF8": "1",
        "AV_LOG_FORCE_NOCOLOR": "1",
    }


@functools.cache
def _launcher() -> tuple[str, ...]:
    """What stands before the program: lower priority, and death with the parent where possible.

    The parent is the thread that spawns, so this must be the event loop's. KILL rather than TERM:
    a hung child ignores TERM, and nobody wants an orphan's half file.
    """
    nice = ("nice", "-n", "10") if shutil.which("nice") else ()
    setpriv = ("setpriv", "--pdeathsig", "KILL")
    try:
        works = subprocess.run([*setpriv, "true"], capture_output=True, timeout=20, check=False)
    except OSError:
        return nice
    return (*setpriv, *nice) if works.returncode == 0 else nice


async def _end(process: Process, readers: Sequence[asyncio.Task[None]]) -> None:
    """Leave no process behind, however the caller came here; SIGTERM, then SIGKILL."""
    try:
        if process.returncode is None:
            _signal_group(process, signal.SIGTERM)
            await _within(process.wait(), STOP_GRACE_S)
    finally:
        if process.returncode is None:
            _signal_group(process, signal.SIGKILL)
            await process.wait()
        for reader in readers:
            reader.cancel()


async def _within(waiting: Awaitable[object], seconds: float) -> None:
    try:
        await asyncio.wait_for(waiting, seconds)
    except TimeoutError:
        pass


def _signal_group(process: Process, number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass
