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


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """One result per source, in order: the file's name in `folder`, or why there is none."""
    folder = Path(request["folder"])
    return {"results": [_result(Path(source), folder) for source in request["sources"]]}


def _result(source: Path, folder: Path) -> dict[str, str]:
    # What Pillow raises at a broken picture; SyntaxError comes from its PNG reader.
    try:
        data = _shrunk(source)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return {"problem": " ".join(str(error).split())[:200] or type(error).__name__}
    name = f"{hashlib.sha256(data).hexdigest()[:32]}.webp"
    write_atomic(folder / name, data)
    return {"name": name}


def _shrunk(source: Path) -> bytes:
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    with Image.open(source, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many")
        image.load()
        smaller = image.convert("RGBA" if image.has_transparency_data else "RGB")
    smaller.thumbnail((LONGEST_PX, LONGEST_PX))
    encoded = io.BytesIO()
    # A new picture from the pixels alone: nothing else of the stranger's file is served.
    smaller.save(encoded, "WEBP", quality=QUALITY)
    return encoded.getvalue()


if __name__ == "__main__":
    serve(answer)
