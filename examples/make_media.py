"""Draw the sample picture and the sample clip of this repository: `python examples/make_media.py`.

Everything is made by this script, so the media carry the repository's own licence. The picture shows three
solids on a plane; in the clip the ball bounces from left to right, behind the cube and in front of the cone.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
MEDIA = Path(__file__).parent / "media"
HORIZON = 0.42  # share of the height above the horizon
SUN = np.array([-0.55, -0.65, 0.52])  # towards the light: left, up, to the viewer


class Canvas:
    """A float RGB image of 0..1, drawn back to front, with `scale` samples per pixel each way."""

    def __init__(self, width: int, height: int, scale: int = 2) -> None:
        self.width, self.height, self.scale = width, height, scale
        ys, xs = np.mgrid[0 : height * scale, 0 : width * scale]
        self.x: Array = (xs + 0.5) / scale
        self.y: Array = (ys + 0.5) / scale
        self.rgb = self._scene()

    def _scene(self) -> Array:
        """Evening sky over a plane that fades into it."""
        line = self.height * HORIZON
        up = np.clip(self.y / line, 0, 1)[..., None]
        sky = (1 - up) * np.array([0.30, 0.48, 0.78]) + up * np.array([0.98, 0.86, 0.72])
        depth = np.clip((self.y - line) / (self.height - line), 1e-3, 1)[..., None]
        near, far = np.array([0.36, 0.52, 0.36]), np.array([0.82, 0.80, 0.68])
        ground = far + (near - far) * depth**0.6
        stripes = np.sin(1.6 / (depth[..., 0] + 0.08) * 4) * 0.018
        ground = ground + stripes[..., None]
        scene: Array = np.where((self.y >= line)[..., None], ground, sky)
        return scene

    def blend(self, mask: Array, colour: Array) -> None:
        """Lay a colour (one, or one per sample) over the image where `mask` is 1."""
        self.rgb = self.rgb * (1 - mask[..., None]) + colour * mask[..., None]

    def shadow(self, x: float, y: float, width: float, depth: float) -> None:
        """A soft ellipse on the ground, drawn away from the light."""
        far = ((self.x - x - width * 0.35) / width) ** 2 + ((self.y - y) / depth) ** 2
        self.blend(0.45 * np.clip(1.25 - far, 0, 1) ** 1.5, np.array([0.12, 0.16, 0.16]))

    def ball(
        self, x: float, y: float, radius: float, colour: tuple[float, float, float], above: float = 0
    ) -> None:
        """A shaded sphere with a highlight; its shadow lies `above` pixels below it."""
        self.shadow(x + above * 0.5, y + above + radius * 0.94, radius * 1.1, radius * 0.26)
        dx, dy = (self.x - x) / radius, (self.y - y) / radius
        inside = dx**2 + dy**2
        dz = np.sqrt(np.clip(1 - inside, 0, 1))
        light = np.clip(dx * SUN[0] + dy * SUN[1] + dz * SUN[2], 0, 1)
        shade = 0.32 + 0.78 * light
        glint = np.clip(light, 0, 1) ** 28 * 0.75
        bounce = np.clip(dy, 0, 1) * 0.12
        body = np.array(colour) * (shade + bounce)[..., None] + glint[..., None]
        self.blend((inside <= 1).astype(float), np.clip(body, 0, 1))

    def cube(self, x: float, y: float, side: float, colour: tuple[float, float, float]) -> None:
        """A cube seen from a corner above: left face in the light, right one in the shade."""
        half, rise = side * 0.62, side * 0.30
        self.shadow(x, y - rise * 0.8, side * 0.95, side * 0.36)
        left = [(x - half, y - rise), (x, y), (x, y - side), (x - half, y - side - rise)]
        right = [(x, y), (x + half, y - rise), (x + half, y - side - rise), (x, y - side)]
        top = [
            (x - half, y - side - rise),
            (x, y - side),
            (x + half, y - side - rise),
            (x, y - side - 2 * rise),
        ]
        for corners, light in ((left, 0.92), (right, 0.55), (top, 1.12)):
            fade = 1 - 0.12 * np.clip((self.y - (y - side)) / side, 0, 1)[..., None]
            self.blend(self._polygon(corners), np.clip(np.array(colour) * light * fade, 0, 1))

    def cone(
        self, x: float, y: float, width: float, height: float, colour: tuple[float, float, float]
    ) -> None:
        """An upright cone, lit from the left."""
        self.shadow(x, y, width * 0.62, width * 0.18)
        share = np.clip((self.y - (y - height)) / height, 1e-6, 1)
        across = (self.x - x) / (width / 2 * share)
        base = ((self.x - x) / (width / 2)) ** 2 + ((self.y - y) / (width * 0.14)) ** 2 <= 1
        sides = (np.abs(across) <= 1) & (self.y >= y - height) & (self.y <= y)
        light = 0.42 + 0.66 * np.clip(1 - ((across + 0.4) / 1.5) ** 2, 0, 1)
        self.blend((sides | base).astype(float), np.clip(np.array(colour) * light[..., None], 0, 1))

    def _polygon(self, corners: list[tuple[float, float]]) -> Array:
        """1 inside a convex polygon, whichever way round it is given."""
        signs = []
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            signs.append((x1 - x0) * (self.y - y0) - (y1 - y0) * (self.x - x0))
        inside = np.all([s >= 0 for s in signs], 0) | np.all([s <= 0 for s in signs], 0)
        mask: Array = inside.astype(float)
        return mask

    def picture(self) -> NDArray[np.uint8]:
        """uint8 [H, W, 3], samples averaged."""
        small = self.rgb.reshape(self.height, self.scale, self.width, self.scale, 3).mean((1, 3))
        levels: NDArray[np.uint8] = np.round(np.clip(small, 0, 1) * 255).astype(np.uint8)
        return levels


RED, BLUE, YELLOW = (0.86, 0.20, 0.18), (0.20, 0.42, 0.86), (0.96, 0.74, 0.16)


def still() -> NDArray[np.uint8]:
    """640 x 480: a yellow cone at the back, a blue cube, a red ball in front."""
    canvas = Canvas(640, 480)
    canvas.cone(468, 306, 120, 178, YELLOW)
    canvas.cube(232, 352, 128, BLUE)
    canvas.ball(392, 352, 76, RED)
    return canvas.picture()


def moment(share: float) -> NDArray[np.uint8]:
    """320 x 240: the red ball bounces from left to right, behind the cube and in front of the cone."""
    canvas = Canvas(320, 240)
    canvas.cone(236, 150, 56, 84, YELLOW)
    ease = share * share * (3 - 2 * share)
    bounce = abs(np.sin(share * np.pi * 3)) * 34 * (1 - share)
    ball_x = 34 + 252 * ease
    canvas.ball(ball_x, 158 - bounce, 25, RED, above=bounce)
    canvas.cube(132, 200, 56, BLUE)
    return canvas.picture()


def write_clip(path: Path, seconds: float = 5.0, rate: int = 15) -> None:
    """H.264 in MP4; one thread, so that the same encoder writes the same bytes."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "24", "preset": "slow"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.codec_context.thread_count = 1
        count = round(seconds * rate)
        for i in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moment(i / (count - 1)), "rgb24")))
        container.mux(stream.encode(None))


def main() -> None:
    """Write both files and say how large they are."""
    MEDIA.mkdir(exist_ok=True)
    Image.fromarray(still()).save(MEDIA / "shapes.png", optimize=True)
    write_clip(MEDIA / "shapes.mp4")
    for path in sorted(MEDIA.glob("shapes.*")):
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
