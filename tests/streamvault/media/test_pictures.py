"""Pictures of strangers: what comes out is ours, whatever went in."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from streamvault.media.pictures import shrink

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def picture(kind: str = "PNG", size: tuple[int, int] = (300, 300), colour: str = "teal") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, kind)
    return data.getvalue()


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def bomb() -> bytes:
    """A PNG of a few bytes that claims 30,000 x 30,000 pixels."""
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return PNG_SIGNATURE + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b""))


def written(folder: Path, *bodies: bytes) -> list[Path]:
    paths = [folder / f"source-{number}" for number in range(len(bodies))]
    for path, body in zip(paths, bodies, strict=True):
        path.write_bytes(body)
    return paths


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


async def test_a_picture_becomes_a_small_webp_named_by_its_bytes(
    tmp_path: Path, images: Path
) -> None:
    sources = written(tmp_path, picture(), picture("JPEG", (2000, 1000), "navy"))
    first, second = await shrink(sources, images)
    assert {path.name for path in images.iterdir()} == {first.name, second.name}
    data = (images / first.name).read_bytes()
    assert first.name == f"{hashlib.sha256(data).hexdigest()[:32]}.webp"
    with Image.open(images / first.name) as image:
        assert (image.format, image.size) == ("WEBP", (300, 300))
        red, green, blue = image.convert("RGB").getpixel((5, 5))  # type: ignore[misc]
        assert (red < 12, abs(green - 128) < 12, abs(blue - 128) < 12) == (True, True, True)
    with Image.open(images / second.name) as image:
        assert image.size == (600, 300)


async def test_the_same_picture_has_the_same_name(tmp_path: Path, images: Path) -> None:
    one, two = await shrink(written(tmp_path, picture(), picture()), images)
    assert one == two


async def test_transparency_stays(tmp_path: Path, images: Path) -> None:
    data = io.BytesIO()
    Image.new("RGBA", (50, 50), (255, 0, 0, 0)).save(data, "PNG")
    [result] = await shrink(written(tmp_path, data.getvalue()), images)
    with Image.open(images / result.name) as image:
        assert image.convert("RGBA").getpixel((5, 5))[3] == 0  # type: ignore[index]


async def test_nothing_of_the_strangers_file_is_left(tmp_path: Path, images: Path) -> None:
    script = b"<script>alert(1)</script>"
    [result] = await shrink(written(tmp_path, picture() + script), images)
    assert script not in (images / result.name).read_bytes()


async def test_what_is_no_picture_spoils_no_other(tmp_path: Path, images: Path) -> None:
    good = picture()
    broken = good[:40] + b"\x00" * 40 + good[80:]
    sources = written(tmp_path, b"", b"<svg/>", bomb(), good[:200], broken, good)
    *others, last = await shrink(sources, images)
    assert [bool(result.problem) for result in others] == [True] * 5
    assert "pixels" in others[2].problem
    assert [path.name for path in images.iterdir()] == [last.name]


async def test_a_picture_that_hangs_takes_no_other_along(tmp_path: Path, images: Path) -> None:
    [good] = written(tmp_path, picture())
    endless = tmp_path / "endless"
    os.mkfifo(endless)
    first, second = await shrink([endless, good], images, timeout_s=3)
    assert "hung" in first.problem and second.name
