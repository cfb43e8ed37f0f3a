"""Tokens and numbers drawn over their pictures, at the true places of the patches.

H, W = pixels of a panel, N = tokens, P = patches of all tiles
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .figure import INK, PAPER, Colour, Key, Panel, Pixels, font
from .patch_boxes import Box, View, canvas_of, patch_boxes, patches_at, views_of
from .roles import (
    OFF_PICTURE,
    SHADES,
    Role,
    anchors_of,
    colour_of,
    name_of,
    owners_of,
    roles_of,
    token_colours,
)
from .values import Frames, Segments, Source, Tokens

PADDING = (205, 208, 212)
GONE, UNSEEN = 0.30, 0.16  # what is left of the light of a dropped patch, and of what no tile shows
DROPPED = (62, 62, 66)
TINT = {Role.KEPT: 0.06}  # of a role's colour over the picture
OTHER_TINT = 0.46
NUMBERED = (Role.MERGED, Role.CONTEXTUAL)  # roles whose patches say which token they went into
ROOMY = 22  # pixels of a patch from which on a number has room


@dataclass(frozen=True)
class Ground:
    """One view, drawn: uint8 [H, W, 3], and which patch each of its pixels shows.

    inside: [H, W] bool, the picture without padding. patch: [H, W] long, -1: none. across, down: [H, W],
    where in the patch, 0..1. box: of the whole panel in the picture's pixels. cell: width and height of a
    patch in pixels of the panel.
    """

    pixels: Tensor
    inside: Tensor
    patch: Tensor
    across: Tensor
    down: Tensor
    box: Box
    cell: tuple[float, float]


def ground(source: Source, view: View, picture: Tensor, side: int) -> Ground:
    """A picture [H, W, 3] uint8 with all that the view's tiles show beyond it, `side` pixels long.

    A long thin picture is at least 48 pixels wide.
    """
    box = left, top, right, bottom = canvas_of(source, view)
    scale = side / max(right - left, bottom - top)
    width, height = (max(48, round(edge * scale)) for edge in (right - left, bottom - top))
    across, down = width / (right - left), height / (bottom - top)
    size = max(1, round(picture.shape[1] * across)), max(1, round(picture.shape[0] * down))
    shown = Image.fromarray(picture.cpu().numpy()).resize(size, Image.Resampling.LANCZOS)
    sheet = Image.new("RGB", (width, height), PADDING)
    corner = round(-left * across), round(-top * down)
    sheet.paste(shown, corner)
    inside = Image.new("1", (width, height))
    inside.paste(1, (*corner, corner[0] + size[0], corner[1] + size[1]))
    x_W = left + (torch.arange(width, dtype=torch.float64) + 0.5) / across
    y_H = top + (torch.arange(height, dtype=torch.float64) + 0.5) / down
    patch_HW, across_HW, down_HW = patches_at(source, view.tiles, x_W, y_H)
    tile = source.tiles[view.tiles[0]].box
    cell = (tile[2] - tile[0]) / source.cols * across, (tile[3] - tile[1]) / source.rows * down
    pixels = torch.from_numpy(np.array(sheet))
    return Ground(
        pixels, torch.from_numpy(np.array(inside)), patch_HW, across_HW.float(), down_HW.float(), box, cell
    )


def shown_views(source: Source, picture: int | None = None, most: int | None = None) -> tuple[View, ...]:
    """The views to draw: of one picture, or of all; `most` evenly spaced ones when there are more."""
    views = tuple(view for view in views_of(source) if picture is None or view.frame == picture)
    if most is None or len(views) <= most:
        return views
    return tuple(views[i * len(views) // most] for i in range(most))


@dataclass(frozen=True, eq=False)
class Marked:
    """Tokens, looked through for drawing, on the CPU.

    role: [N] long. colour: [N, 3] float32. owner: [P] long, -1: dropped. anchor: [P] bool, others went
    into it.
    """

    tokens: Tokens
    role: Tensor
    colour: Tensor
    owner: Tensor
    anchor: Tensor

    @classmethod
    def of(cls, tokens: Tokens) -> Marked:
        """Roles, colours, and the token of every patch."""
        role_N = roles_of(tokens).cpu()
        return cls(tokens, role_N, token_colours(role_N), owners_of(tokens).cpu(), anchors_of(tokens).cpu())

    def drawn(self, base: Ground) -> Tensor:
        """uint8 [H, W, 3]: what is kept and merged in colours, the dropped dark, with lines around tokens."""
        none = len(self.role)
        owner_HW = torch.cat([self.owner, torch.tensor([-1])])[base.patch]
        seen_HW, kept_HW = base.patch >= 0, owner_HW >= 0
        colour_N3 = torch.cat([self.colour, torch.zeros(1, 3)])
        tint_N = torch.cat([_tints(self.role), torch.zeros(1)])
        which_HW = owner_HW.masked_fill(~kept_HW, none)
        pixel = base.pixels.float()
        grey = (pixel @ torch.tensor([0.299, 0.587, 0.114]))[..., None]
        light = torch.where(seen_HW, GONE, UNSEEN)[..., None]
        dim = grey * light + 255 * (~seen_HW)[..., None] * 0.6 + 18
        tint = tint_N[which_HW][..., None]
        out = torch.where(kept_HW[..., None], pixel * (1 - tint) + colour_N3[which_HW] * tint, dim)
        edge_HW = _edges(owner_HW, max(1, round(min(base.cell) / 22))) & kept_HW
        out[edge_HW] = colour_N3[which_HW[edge_HW]] * 0.82
        self._mark_anchors(base, out)
        return self._numbered(base, out.round().clamp(0, 255).to(torch.uint8))

    def _mark_anchors(self, base: Ground, out: Tensor) -> None:
        """A white dot with a dark rim in every patch that others were merged into."""
        anchor_HW = torch.cat([self.anchor, torch.tensor([False])])[base.patch]
        width, height = base.cell
        apart = ((base.across - 0.5) * width).hypot((base.down - 0.5) * height)
        part = (0.4 if len(self.role) <= 100 else 0.46) if min(width, height) >= ROOMY else 0.3
        radius = max(2.5, min(width, height) * part)  # three digits need more room
        out[anchor_HW & (apart <= radius)] = torch.tensor([20.0, 24.0, 30.0])
        out[anchor_HW & (apart <= radius - max(1.0, radius * 0.14))] = torch.tensor([255.0, 255.0, 255.0])

    def _numbered(self, base: Ground, pixels: Tensor) -> Tensor:
        """The panel with the token's row on every patch of a merged token, where there is room for it."""
        if min(base.cell) < ROOMY:
            return pixels
        patches = torch.bincount(base.patch[base.patch >= 0]).nonzero()[:, 0]
        owner = self.owner[patches]
        role = torch.cat([self.role, torch.tensor([-1])])[owner]
        patches = patches[torch.isin(role, torch.tensor(NUMBERED))]
        image = Image.fromarray(pixels.numpy())
        draw = ImageDraw.Draw(image)
        digits = len(str(len(self.role) - 1))
        size = min(15, round(min(base.cell) * 0.45), round(min(base.cell) * 1.3 / digits))
        centres = self._centres(base, patches).tolist()
        for (x, y), patch in zip(centres, patches.tolist(), strict=True):
            number, dark = str(int(self.owner[patch])), bool(self.anchor[patch])
            fill, rim = (INK, 0) if dark else (PAPER, 1)
            draw.text((x, y), number, fill, font(size), anchor="mm", stroke_width=rim, stroke_fill=INK)
        return torch.from_numpy(np.array(image))

    def _centres(self, base: Ground, patches: Tensor) -> Tensor:
        """[n, 2]: x, y of the middle of each patch in the panel."""
        left, top, right, bottom = patch_boxes(self.tokens.source)[patches].unbind(1)
        middle = torch.stack([(left + right) / 2 - base.box[0], (top + bottom) / 2 - base.box[1]], 1)
        size = torch.tensor([base.box[2] - base.box[0], base.box[3] - base.box[1]], dtype=torch.float64)
        return middle / size * torch.tensor(base.patch.shape[::-1], dtype=torch.float64)

    def here(self, view: View) -> int:
        """How many tokens are at home in the tiles of a view."""
        return int(torch.isin(self.tokens.home.cpu(), torch.tensor(view.tiles)).sum())

    def legend(self, unseen: bool, numbered: bool = False) -> list[Key]:
        """One entry per role that is there, with its tokens and patches; the dropped; what is not seen."""
        there = [role for role in Role if bool((self.role == role).any())]
        keys = [self._key(role, there) for role in there if role not in OFF_PICTURE]
        if bool(self.anchor.any()):
            which = "; the number is the token's row" if numbered else ""
            keys.append(Key((colour_of(Role.CONTEXTUAL),), f"patch that others went into{which}", mark=True))
        gone = int((self.owner < 0).sum())
        keys += [Key((DROPPED,), f"dropped: {counted(gone, 'patch', 'patches')}")] if gone else []
        keys += [Key(((178, 178, 178),), "outside every tile")] if unseen else []
        off = [role for role in there if role in OFF_PICTURE]
        return keys + [
            Key((colour_of(role),), f"{name_of(role)}: {int((self.role == role).sum())}, of no patch")
            for role in off
        ]

    def _key(self, role: Role, there: Sequence[Role]) -> Key:
        mine_N = self.role == role
        mine_M = mine_N[self.tokens.owner.cpu()]
        tokens, patches = (
            int(mine_N.sum()),
            int(torch.bincount(self.tokens.member.cpu()[mine_M]).count_nonzero()),
        )
        of = "" if patches == tokens else f" of {counted(patches, 'patch', 'patches')}"
        colours = SHADES[role] if len(set(SHADES[role])) > 1 else (colour_of(role),)
        return Key(colours, f"{name_of(role, there)}: {tokens}{of}")


def counted(number: int, one: str, many: str) -> str:
    """`1 patch`, `3 patches`."""
    return f"{number} {one if number == 1 else many}"


def _tints(role_N: Tensor) -> Tensor:
    table = torch.tensor([TINT.get(role, OTHER_TINT) for role in Role])
    return table[role_N]


def _edges(owner_HW: Tensor, thick: int) -> Tensor:
    """[H, W] bool: within `thick` pixels of a token's edge, inside it. The panel's own edge is none."""
    edge_HW = torch.zeros_like(owner_HW, dtype=torch.bool)
    for step in range(1, thick + 1):
        down = owner_HW[step:] != owner_HW[:-step]
        across = owner_HW[:, step:] != owner_HW[:, :-step]
        edge_HW[step:] |= down
        edge_HW[:-step] |= down
        edge_HW[:, step:] |= across
        edge_HW[:, :-step] |= across
    return edge_HW


def marked_patch(base: Ground, pixels: Tensor, patch: int) -> Tensor:
    """The panel with a white frame, rimmed dark, around one patch and a red dot in it; as it is without."""
    here = base.patch == patch
    if patch < 0 or not bool(here.any()):
        return pixels
    image = Image.fromarray(pixels.numpy())
    draw = ImageDraw.Draw(image)
    y, x = here.nonzero().unbind(1)
    left, top, right, bottom = int(x.min()), int(y.min()), int(x.max()), int(y.max())
    for grown, colour in ((2, INK), (1, PAPER), (0, PAPER)):
        draw.rectangle((left - grown, top - grown, right + grown, bottom + grown), outline=colour)
    middle, centre, radius = (left + right) / 2, (top + bottom) / 2, max(2.5, min(base.cell) * 0.18)
    box = (middle - radius, centre - radius, middle + radius, centre + radius)
    draw.ellipse(box, fill=(235, 20, 20), outline=PAPER)
    return torch.from_numpy(np.array(image))


def plain_panel(picture: Tensor, side: int) -> Pixels:
    """A picture [H, W, 3] uint8 as a panel whose longest side is `side`."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = max(48, round(width * scale)), max(48, round(height * scale))
    return np.array(Image.fromarray(picture.cpu().numpy()).resize(size, Image.Resampling.LANCZOS))


# Okabe and Ito's colours, which the colour-blind tell apart
SEGMENTS: tuple[Colour, ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
)


def segment_colours(segments: Segments) -> dict[int, tuple[str, Colour]]:
    """The name and the colour of each segment's bar."""
    first, out = 0, dict[int, tuple[str, Colour]]()
    for number, length in enumerate(segments.lengths.tolist()):
        last = first + length - 1
        of = f"frames {first} to {last}" if length > 1 else f"frame {first}"
        out[number] = f"segment {number}: {of}", SEGMENTS[number % len(SEGMENTS)]
        first += length
    return out


def frame_label(frames: Frames, number: int) -> str:
    """`frame 3, 1.20 s`, or `picture 3` of pictures in their own right."""
    if not frames.clip:
        return f"picture {number}"
    return f"frame {number}, {float(frames.time[number]):.2f} s"


def label_of(source: Source, view: View, clip: bool, tokens: int | None = None) -> str:
    """`frame 3, 1.2 s: 64 tokens`; what is the only one of its kind is not named."""
    parts: list[str] = []
    if clip:
        time = f", {source.seconds[view.frame]:.2f} s" if source.seconds else ""
        parts.append(f"frame {view.frame}{time}")
    elif source.frames > 1:
        parts.append(f"picture {view.frame}")
    copies = [other for other in views_of(source) if other.frame == view.frame and other.copy]
    parts += [f"copy {view.copy + 1}"] if copies else []
    wholes = any(tile.whole for tile in source.tiles if tile.frame == view.frame)
    if wholes:
        many = len(view.tiles)
        parts.append("whole view" if view.whole else f"{many} tiles" if many > 1 else "1 tile")
    text = ", ".join(parts)
    if tokens is None:
        return text
    told = counted(tokens, "token", "tokens")
    return f"{text}: {told}" if text else told


@dataclass(frozen=True)
class Drawn:
    """Panels, and what their legend needs to know.

    unseen: a part of a picture is in no tile. numbered: rows of tokens stand on merged patches.
    """

    panels: list[Panel]
    unseen: bool
    numbered: bool


def panels_of(
    marked: Marked, pictures: Sequence[Tensor], views: Sequence[View], side: int, clip: bool
) -> Drawn:
    """The views, drawn and labelled."""
    source, out, unseen, numbered = marked.tokens.source, list[Panel](), False, False
    for view in views:
        base = ground(source, view, pictures[view.frame], side)
        unseen = unseen or bool((base.inside & (base.patch < 0)).any())
        numbered = numbered or min(base.cell) >= ROOMY
        label = label_of(source, view, clip, marked.here(view)) if len(views) > 1 else ""
        out.append(Panel(marked.drawn(base).numpy(), label))
    return Drawn(out, unseen, numbered)


def together(source: Source) -> int:
    """How many views there are of every picture, 1 when that differs."""
    views = views_of(source)
    counts = {sum(other.frame == view.frame and other.copy == view.copy for other in views) for view in views}
    return counts.pop() if len(counts) == 1 else 1
