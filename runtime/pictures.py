"""Picture files to 8-bit RGB: upright, alpha dropped, 16 bit scaled, the first frame of several; and PNGs."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil
from PIL import ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from .errors import LoomError, MediaError
from .files import write_whole

if TYPE_CHECKING:
    from .values import Picture  # torch: what decodes has no need of it

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
BROKEN = (OSError, SyntaxError, EOFError, ValueError, TypeError, LookupError, struct.error)  # from Pillow
MOST_PIXELS = 178_956_970  # Pillow's own limit: beyond it a small file may eat all memory


def read_picture(path: Path) -> NDArray[np.uint8]:
    """RGB uint8 [H, W, 3], as Pillow's `convert("RGB")` gives it, but 16-bit greys are scaled, not clipped.

    Errors: MediaError when the file is no picture, cut off, too large, or in a colour space without a way to
    RGB.
    """
    with opened(path) as picture:
        return np.array(rgb(path, ImageOps.exif_transpose(picture)), np.uint8)


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) after EXIF rotation, read from the header alone."""
    with opened(path) as picture:
        turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return (picture.height, picture.width) if turned else picture.size


def picture_count(path: Path) -> int:
    """How many pictures the file holds: 1, or the frames of an animation, from the headers alone."""
    with opened(path) as picture:
        return int(getattr(picture, "n_frames", 1))


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The file opened by Pillow; whatever Pillow finds wrong with it inside the block is a MediaError."""
    try:
        with Pil.open(path) as picture:
            yield picture
    except LoomError:
        raise
    except (Pil.DecompressionBombError, Pil.DecompressionBombWarning) as error:
        raise MediaError(
            f"{path}: the picture is too large ({error}); scale it down below {MOST_PIXELS} pixels"
        ) from error
    except UnidentifiedImageError as error:
        raise MediaError(
            f"{path}: not a picture that Pillow can read (it starts with {first_bytes(path)}); "
            "wanted JPEG, PNG, WebP, BMP, GIF or TIFF; check the file"
        ) from error
    except BROKEN as error:
        why = "it ends too early" if "truncated" in str(error) else str(error)
        raise MediaError(f"{path}: the picture is damaged ({why}); fetch or save it again") from error


def first_bytes(path: Path) -> str:
    """How a file starts, for messages."""
    try:
        with path.open("rb") as file:
            return repr(file.read(12))
    except OSError as error:
        return f"nothing: {error.strerror}"


def rgb(path: Path, picture: Pil.Image) -> Pil.Image:
    """The picture in 8-bit RGB; a MediaError for floats and for more than 16 bits."""
    if picture.mode.startswith("I;16") or picture.mode == "I":
        grey = np.asarray(picture).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            came = f"values {grey.min()}..{grey.max()}"
            raise MediaError(f"{path}: {came}, wanted 8 or 16 bits per channel; save it as 8 bit")
        return Pil.fromarray(((grey * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise MediaError(f"{path}: floating-point pixels, wanted 8 or 16 bits per channel; save it as 8 bit")
    if picture.mode == "P" and isinstance(picture.info.get("transparency"), bytes):
        picture = picture.convert("RGBA")  # the same colours; Pillow warns about the direct way
    return picture.convert("RGB")


def write_png(picture: Picture, path: Path, text: Mapping[str, str] | None = None) -> None:
    """Write a picture as PNG, whole or not at all, its caption as `Title`. Errors: OSError as it is.

    text: further texts by keyword (1 to 79 characters of latin-1), `tEXt` chunks before the pixels; those
    beyond latin-1 are `iTXt`. Pillow gives all of them as `Image.open(path).text`.
    """
    write_whole(path, png_bytes(picture, text))


def png_bytes(picture: Picture, text: Mapping[str, str] | None = None) -> bytes:
    """The PNG file that `write_png` writes; the same bytes for the same picture and texts."""
    info = PngInfo()
    for keyword, value in {"Title": picture.caption, **(text or {})}.items():
        if value:
            info.add_text(keyword, value)
    out = io.BytesIO()
    Pil.fromarray(picture.pixels.cpu().numpy()).save(out, "PNG", pnginfo=info)
    return out.getvalue()
