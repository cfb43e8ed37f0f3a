"""The loss of next tokens, and a step of a projector through a frozen language model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tokenloom.runtime.models.tokenpacker import TokenPacker
from tokenloom.runtime.training.expand import expand
from tokenloom.runtime.training.groups import adamw, parameter_groups
from tokenloom.runtime.training.loss import last_hidden, next_token_loss

from ..models.tiny import WIDTH, tiny_language
from .made import batch


def test_as_the_models_own() -> None:
    """transformers' own loss of the same batch."""
    model = tiny_language("llama")
    rows = expand(batch(([1, 5, 6, 7], []), ([1, 8], [])), torch.zeros(0, dtype=torch.long))
    embeds = rows.embeds(model.body.embed_tokens, torch.zeros(0, WIDTH))
    ours = next_token_loss(last_hidden(model.module, embeds, rows.mask), rows.labels, model.head)
    theirs = model.module(inputs_embeds=embeds, attention_mask=rows.mask, labels=rows.labels).loss
    torch.testing.assert_close(ours, theirs)


def test_no_label_costs_nothing() -> None:
    """A batch of samples that teach nothing: 0 with a gradient of 0, where the released code gives nan."""
    hidden = torch.randn(1, 3, 4, requires_grad=True)
    loss = next_token_loss(hidden, torch.full((1, 3), -100), nn.Linear(4, 5))
    loss.backward()
    assert loss.item() == 0
    assert hidden.grad is not None
    assert hidden.grad.eq(0).all()


def test_accumulated_as_one() -> None:
    """Two batches over the number of labels of both give the loss of the joined batch."""
    torch.manual_seed(0)
    hidden, head = torch.randn(2, 4, 8), nn.Linear(8, 9)
    labels = torch.tensor([[-100, 3, 4, 5], [-100, -100, -100, 6]])
    whole = next_token_loss(hidden, labels, head)
    parts = [next_token_loss(hidden[i : i + 1], labels[i : i + 1], head, items=4) for i in (0, 1)]
    torch.testing.assert_close(sum(parts), whole)


def test_a_projector_learns_through_a_frozen_model() -> None:
    """Stage 1 of TokenPacker: only the projector changes, all of it that can, and it is learnt by heart."""
    model = tiny_language("llama")
    model.module.requires_grad_(False)
    before = {name: p.clone() for name, p in model.module.named_parameters()}
    torch.manual_seed(0)
    projector = TokenPacker(16, WIDTH, levels=2, heads=2).train()
    grid, levels = torch.randn(2, 4, 4, 16), torch.randn(2, 4, 4, 32)
    rows = expand(batch(([1, -200, 5, 6], [None]), ([1, -200, 7], [None])), torch.tensor([4, 4]))
    optimiser = adamw(parameter_groups(projector.named_parameters(), lr=0.001))
    losses: list[float] = []
    for _ in range(30):
        visual = projector(grid, levels, scale=2).flatten(0, 1)
        embeds = rows.embeds(model.body.embed_tokens, visual)
        loss = next_token_loss(last_hidden(model.module, embeds, rows.mask), rows.labels, model.head)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(p.equal(before[name]) for name, p in model.module.named_parameters())
    still = [name for name, p in projector.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-6]
    assert set(still) <= {"ln_k_1.bias"}  # a constant in every key, which softmax ignores


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    """Rows are made where the batch lies, and the loss is the CPU's."""
    made = batch(([1, -200, 5, 6], [(1, 2)]), ([1, 7], []))
    counts, after = torch.tensor([2, 1, 2]), torch.tensor([3, 4, 4])
    on_cpu = expand(made, counts, after)
    fields = {name: getattr(made, name).cuda() for name in ("ids", "labels", "mask")}
    moved = type(made)(**fields, tiles=made.tiles, grids=made.grids, pictures=made.pictures)
    on_gpu = expand(moved, counts, after)
    for name in ("ids", "token", "labels", "mask"):
        assert getattr(on_gpu, name).is_cuda
        assert getattr(on_gpu, name).cpu().equal(getattr(on_cpu, name))
