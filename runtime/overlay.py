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

from .figure import INK, PAPER, Colour, Key, Panel, font
from .ground import Ground, ground
from .patch_boxes import View, patch_boxes, views_of
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

GONE, UNSEEN = 0.30, 0.16  # what is left of the light of a dropped patch, and of what no tile shows
DROPPED = (62, 62, 66)
TINT = 0.46  # of a role's colour over the picture
KEPT_TINT = 0.13  # part of that for kept patches, which show the picture
NUMBERED = (Role.MERGED, Role.CONTEXTUAL)  # roles whose patches say which token they went into
ROOMY = 22  # pixels of a patch from which on a number has room


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
    into it. tint: strength of the colours, 0..1. numbers: rows of tokens on merged patches, where they fit.
    """

    tokens: Tokens
    role: Tensor
    colour: Tensor
    owner: Tensor
    anchor: Tensor
    tint: float = TINT
    numbers: bool = True

    @classmethod
    def of(cls, tokens: Tokens, tint: float = TINT, *, numbers: bool = True) -> Marked:
        """Roles, colours, and the token of every patch."""
        role_N = roles_of(tokens).cpu()
        owner_P, anchor_P = owners_of(tokens).cpu(), anchors_of(tokens).cpu()
        return cls(tokens, role_N, token_colours(role_N), owner_P, anchor_P, tint, numbers)

    def drawn(self, base: Ground) -> Tensor:
        """uint8 [H, W, 3]: what is kept and merged in colours, the dropped dark, with lines around tokens."""
        none = len(self.role)
        owner_HW = torch.cat([self.owner, torch.tensor([-1])])[base.patch]
        seen_HW, kept_HW = base.patch >= 0, owner_HW >= 0
        colour_N3 = torch.cat([self.colour, torch.zeros(1, 3)])
        tint_N = torch.where(self.role == int(Role.KEPT), self.tint * KEPT_TINT, self.tint)
        tint_N = torch.cat([tint_N, torch.zeros(1)])
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
        part = (0.4 if len(self.role) <= 100 else 0.46) if self.numbered(base) else 0.3
        radius = max(2.5, min(width, height) * part)  # three digits need more room
        out[anchor_HW & (apart <= radius)] = torch.tensor([20.0, 24.0, 30.0])
        out[anchor_HW & (apart <= radius - max(1.0, radius * 0.14))] = torch.tensor([255.0, 255.0, 255.0])

    def numbered(self, base: Ground) -> bool:
        """Whether merged patches have room for the rows of their tokens, and are to have them."""
        return self.numbers and min(base.cell) >= ROOMY

    def _numbered(self, base: Ground, pixels: Tensor) -> Tensor:
        """The panel with the token's row on every patch of a merged token, where there is room for it."""
        if not self.numbered(base):
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
        numbered = numbered or marked.numbered(base)
        label = label_of(source, view, clip, marked.here(view)) if len(views) > 1 else ""
        out.append(Panel(marked.drawn(base).numpy(), label))
    return Drawn(out, unseen, numbered)


def together(source: Source) -> int:
    """How many views there are of every picture, 1 when that differs."""
    views = views_of(source)
    counts = {sum(other.frame == view.frame and other.copy == view.copy for other in views) for view in views}
    return counts.pop() if len(counts) == 1 else 1
