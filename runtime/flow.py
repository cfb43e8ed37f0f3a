"""How tokens go from stage to stage: which stay, which are merged into what, which are dropped.

N = tokens, M = memberships, P = patches of all tiles, S = rows of a sequence
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .places import heaviest
from .roles import Role, owners_of, roles_of
from .values import LLMInput, LLMState, Patches, Tokens, VisualTokens

Flows = Mapping[tuple[Role, Role | None], int]  # None: dropped


@dataclass(frozen=True, eq=False)
class Stage:
    """The tokens there are at one place of a graph.

    parts: one per wire of visual tokens. text: rows of text. counts: tokens by role, text too.
    """

    name: str
    parts: tuple[Tokens, ...]
    text: int = 0
    counts: Mapping[Role, int] = field(default_factory=dict[Role, int])

    @classmethod
    def of(cls, name: str, parts: Sequence[Tokens], text: int = 0) -> Stage:
        """With the tokens of every role counted."""
        roles = torch.cat([roles_of(part).cpu() for part in parts] or [torch.zeros(0, dtype=torch.long)])
        counts = {Role(role): number for role, number in sorted(Counter(roles.tolist()).items())}
        return cls(name, tuple(parts), text, {**counts, **({Role.TEXT: text} if text else {})})

    @property
    def visual(self) -> int:
        """Its tokens without those of text."""
        return sum(map(len, self.parts))

    @property
    def total(self) -> int:
        """All its tokens, those of text too where they count."""
        return self.visual + self.text


def stages_of(value: Tokens | LLMInput | LLMState, name: str = "", *, text: bool = False) -> list[Stage]:
    """The stages that a value tells of: one, but of a state each run of layers that saw the same rows.

    name: instead of the value's own; layers keep theirs in a line below it. text: count the rows of text.
    """
    if isinstance(value, Tokens):
        return [Stage.of(name or _kind_of(value), (value,))]
    if isinstance(value, LLMInput):
        every = torch.arange(len(value), device=value.wire.device)
        return [_of_rows(value, every, name or "placed", text)]
    out = [_of_rows(value.input, rows, f"{name}\n{layers}".strip(), text) for layers, rows in _layers(value)]
    now = value.row if value.hiding is None else value.row[value.hiding.visible]
    if not value.ran or not torch.equal(now.cpu(), value.ran[-1].cpu()):
        out.append(_of_rows(value.input, now, f"{name}\nfrom layer {value.layer}".strip(), text))
    return out


def _kind_of(tokens: Tokens) -> str:
    if isinstance(tokens, VisualTokens):
        return "visual tokens"
    return "patches" if isinstance(tokens, Patches) and len(tokens) >= len(tokens.source) else "tokens"


def _layers(state: LLMState) -> list[tuple[str, Tensor]]:
    """Runs of layers that ran on the same rows."""
    out: list[tuple[int, int, Tensor]] = []
    for layer, rows in enumerate(state.ran):
        if out and torch.equal(out[-1][2], rows):
            out[-1] = out[-1][0], layer, rows
        else:
            out.append((layer, layer, rows))
    return [(f"layers {a} to {b}" if a < b else f"layer {a}", rows) for a, b, rows in out]


def _of_rows(inputs: LLMInput, rows: Tensor, name: str, text: bool) -> Stage:
    wire, token = inputs.wire[rows], inputs.token[rows]
    parts = [tokens.select(token[wire == number]) for number, tokens in enumerate(inputs.tokens)]
    return Stage.of(name, parts, int((wire < 0).sum()) if text else 0)


def flows(before: Stage, after: Stage) -> Flows:
    """How many tokens of each role went into tokens of each role, or were dropped (None).

    Tokens of pictures that the later stage knows nothing of go nowhere: they are not counted.
    """
    out: Counter[tuple[Role, Role | None]] = Counter()
    for part in before.parts:
        heirs = [other for other in after.parts if other.source == part.source]
        if heirs:
            out.update(_part_flows(part, heirs[0].concat(*heirs[1:]) if len(heirs) > 1 else heirs[0]))
    if before.text and after.text:
        out[Role.TEXT, Role.TEXT] += min(before.text, after.text)
        if before.text > after.text:
            out[Role.TEXT, None] += before.text - after.text
    return out


def _part_flows(before: Tokens, after: Tokens) -> Counter[tuple[Role, Role | None]]:
    heir_N = heirs_of(before, after)
    into = torch.cat([roles_of(after).cpu(), torch.tensor([-1])])[heir_N]  # -1 takes the last
    many = len(Role) + 1
    counts = torch.bincount(roles_of(before).cpu() * many + into + 1, minlength=many * many).tolist()
    pairs = ((divmod(code, many), count) for code, count in enumerate(counts) if count)
    return Counter({(Role(role), Role(to - 1) if to else None): count for (role, to), count in pairs})


def heirs_of(before: Tokens, after: Tokens) -> Tensor:
    """[N] long: the later token that each earlier one went into, -1 for a dropped one; on the CPU.

    That is the token that stands for the same patches, or else the one in which its heaviest patch weighs
    most, if it stands for all of its patches. Tokens without patches go to those of their kind and tile.
    """
    before, after = before.to("cpu"), after.to("cpu")
    to_N = _same(_marks(before), _marks(after))
    open_N = (to_N < 0) & (before.count > 0)
    owner_P = owners_of(after)
    likely_N = torch.where(open_N, owner_P[heaviest(before).clamp_min(0)], -1)
    patches = len(after.source)
    asked_M = likely_N[before.owner] * patches + before.member
    found_M = torch.isin(asked_M, after.owner * patches + after.member) & (likely_N[before.owner] >= 0)
    lost_N = torch.zeros(len(before), dtype=torch.long).index_add_(0, before.owner, (~found_M).long())
    return torch.where(open_N & (lost_N == 0), likely_N, to_N)


def _marks(tokens: Tokens) -> Tensor:
    """[N] long: equal for tokens of the same patches with the same shares.

    For those without patches: of the same kind, tile and number there. The sum of shares alone would be
    alike for a few of some thousand tokens by chance, so the first patch counts with it.
    """
    key_P = torch.rand(len(tokens.source), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sum_N = torch.zeros(len(tokens), dtype=torch.float64)
    sum_N.index_add_(0, tokens.owner, (key_P + 1)[tokens.member] * tokens.share.double())
    bare = (tokens.count == 0).nonzero()[:, 0]
    kinds = tokens.kind[bare].long() * len(tokens.source.tiles) + tokens.home[bare]
    order = kinds.argsort(stable=True)
    fresh = torch.ones(len(bare), dtype=torch.bool)
    fresh[1:] = kinds[order].diff() != 0
    place = torch.arange(len(bare))
    nth = torch.empty_like(place)
    nth[order] = place - torch.where(fresh, place, 0).cummax(0).values if len(bare) else place
    first_N = torch.zeros(len(tokens), dtype=torch.long)
    first_N.scatter_reduce_(0, tokens.owner, tokens.member, "amin", include_self=False)
    mark_N = (sum_N * 2**21).round().long() + (first_N << 36)  # shares are float32
    mark_N[bare] = -1 - (kinds * 2**20 + nth)
    return mark_N


def _same(mark_N: Tensor, other_N: Tensor) -> Tensor:
    """[N] long: the first row of the other with the same mark, or -1."""
    if not len(other_N):
        return torch.full_like(mark_N, -1)
    order = other_N.argsort(stable=True)
    place = torch.searchsorted(other_N[order], mark_N).clamp_max(len(order) - 1)
    found = order[place]
    return torch.where(other_N[found] == mark_N, found, -1)
