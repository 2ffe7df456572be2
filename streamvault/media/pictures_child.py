"""Child process that decodes strangers' pictures: `python -m streamvault.media.pictures_child`."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

from PIL import Image

from streamvault.media.child import serve
from streamvault.media.files import write_atomic

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MAX_PIXELS = 4096 * 4096
LONGEST_PX = 600
QUALITY = 82
# What Pillow raises at a broken picture; SyntaxError comes from its PNG reader.
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """One result per source, in order: the file's name in `folder`, or why there is none. With
    `jpeg` the one source is written there as such a file."""
    if "jpeg" in request:
        return {"results": [_as_jpeg(Path(request["sources"][0]), Path(request["jpeg"]))]}
    folder = Path(request["folder"])
    return {"results": [_result(Path(source), folder) for source in request["sources"]]}


def _result(source: Path, folder: Path) -> dict[str, str]:
    try:
        data = _encoded(_shrunk(source), "WEBP")
    except UNREADABLE as error:
        return _problem(error)
    name = f"{hashlib.sha256(data).hexdigest()[:32]}.webp"
    write_atomic(folder / name, data)
    return {"name": name}


def _as_jpeg(source: Path, target: Path) -> dict[str, str]:
    try:
        data = _encoded(_shrunk(source).convert("RGB"), "JPEG")
    except UNREADABLE as error:
        return _problem(error)
    write_atomic(target, data)
    return {"name": target.name}


def _problem(error: Exception) -> dict[str, str]:
    return {"problem": " ".join(str(error).split())[:200] or type(error).__name__}


def _shrunk(source: Path) -> Image.Image:
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    with Image.open(source, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many")
        image.load()
        smaller = image.convert("RGBA" if image.has_transparency_data else "RGB")
    smaller.thumbnail((LONGEST_PX, LONGEST_PX))
    return smaller


def _encoded(image: Image.Image, kind: str) -> bytes:
    """A new picture from the pixels alone: nothing else of the stranger's file is served."""
    encoded = io.BytesIO()
    image.save(encoded, kind, quality=QUALITY)
    return encoded.getvalue()


if __name__ == "__main__":
    serve(answer)
