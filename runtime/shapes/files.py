"""Pictures and clips as files: PNG without loss, H.264 in MP4 with so little that every answer survives."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_QUALITY = {"crf": "8", "preset": "medium", "bf": "0", "tune": "animation"}
"""Without B-frames no reader loses or repeats a frame at the ends."""


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write RGB uint8 [H, W, 3]. Errors: OSError as it is."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())


def write_mp4(path: Path, pixels: NDArray[np.uint8], fps: float) -> None:
    """Write RGB uint8 [T, H, W, 3], even sides, T frames at `fps`. Errors: OSError as it is.

    One thread, so that one encoder writes the same bytes each time; in memory first, so that a full disk is
    an OSError and not one of the encoder's.
    """
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options=dict(_QUALITY))
        stream.width, stream.height, stream.pix_fmt = pixels.shape[2], pixels.shape[1], "yuv420p"
        stream.codec_context.thread_count = 1
        for one in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(one, "rgb24")))
        container.mux(stream.encode(None))
    path.write_bytes(buffer.getvalue())
