"""The optimiser of matrices."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from visiontk.training.muon import MOMENTUM, QUINTIC, Muon

SHAPES = [(16, 48), (48, 16), (24, 24), (16, 48)]


def matrices() -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES]


def give_gradients(parameters: list[torch.nn.Parameter], step: int) -> None:
    torch.manual_seed(step)
    for one in parameters:
        one.grad = 1e-3 * torch.randn(one.shape)


def nearly_orthogonal(matrix: Tensor) -> Tensor:
    """By the singular values themselves, in double precision: each is sent through the polynomials, its directions stay."""
    left, sizes, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    sizes = sizes / sizes.norm()
    for a, b, c in QUINTIC:
        sizes = a * sizes + b * sizes**3 + c * sizes**5
    found: Tensor = left @ torch.diag(sizes) @ right
    return found


def test_a_step_is_the_orthogonal_matrix_of_nesterovs_momentum() -> None:
    ours = matrices()
    expected = [one.detach().double() for one in ours]
    means = [torch.zeros(shape, dtype=torch.float64) for shape in SHAPES]
    optimiser = Muon([{"params": ours[:2], "weight_decay": 0.1}, {"params": ours[2:]}], lr=0.01)
    for step in range(3):
        give_gradients(ours, step)
        optimiser.step()
        for place, (one, shape) in enumerate(zip(ours, SHAPES, strict=True)):
            assert one.grad is not None
            gradient = one.grad.double()
            means[place] = MOMENTUM * means[place] + (1 - MOMENTUM) * gradient
            update = nearly_orthogonal(MOMENTUM * means[place] + (1 - MOMENTUM) * gradient)
            decay = 0.1 if place < 2 else 0.0
            expected[place] = (1 - 0.01 * decay) * expected[place] - 0.01 * 0.2 * math.sqrt(max(shape)) * update
            assert torch.allclose(one.detach().double(), expected[place], atol=1e-6), (step, place)


def test_it_moves_as_timms_does_up_to_the_rounding_of_bf16() -> None:
    from timm.optim import Muon as Timms

    ours = matrices()
    theirs, start = copy.deepcopy(ours), copy.deepcopy(ours)
    here, there = Muon([{"params": ours}], lr=0.01, weight_decay=0.05), Timms(theirs, lr=0.01, weight_decay=0.05, nesterov=True)
    for step in range(3):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        here.step()
        there.step()
    for one, other, before in zip(ours, theirs, start, strict=True):
        assert float(((one - other).norm() / (other - before).norm()).detach()) < 0.03


def test_what_has_no_gradient_stays_and_its_momentum_too() -> None:
    ours = matrices()
    optimiser = Muon([{"params": ours}], lr=0.01)
    give_gradients(ours, 0)
    optimiser.step()
    kept, momentum = ours[0].detach().clone(), optimiser.state[ours[0]]["momentum_buffer"].clone()
    give_gradients(ours, 1)
    ours[0].grad = None
    moving = ours[3].detach().clone()
    optimiser.step()
    assert torch.equal(ours[0], kept) and torch.equal(optimiser.state[ours[0]]["momentum_buffer"], momentum)
    assert not torch.equal(ours[3], moving), "another of the same shape moves"


def test_it_goes_on_from_what_it_held() -> None:
    ours = matrices()
    optimiser = Muon([{"params": ours}], lr=0.01)
    give_gradients(ours, 0)
    optimiser.step()
    others = copy.deepcopy(ours)
    again = Muon([{"params": others}], lr=0.5)
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for parameters, one in ((ours, optimiser), (others, again)):
        give_gradients(parameters, 1)
        one.step()
    assert all(torch.equal(one, other) for one, other in zip(ours, others, strict=True))


def test_on_a_cpu_nothing_is_counted_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it has no units for it, products of matrices in bf16 take 20 times as long as in fp32."""
    import timm.optim.muon

    seen: list[torch.dtype] = []
    inner = timm.optim.muon.zeropower_via_newtonschulz

    def watched(matrices: Tensor, steps: int, coefficients: list[tuple[float, float, float]], *, dtype: torch.dtype) -> Tensor:
        seen.append(dtype)
        return inner(matrices, steps, coefficients, dtype=dtype)

    monkeypatch.setattr(timm.optim.muon, "zeropower_via_newtonschulz", watched)
    ours = matrices()
    give_gradients(ours, 0)
    Muon([{"params": ours}], lr=0.01).step()
    assert seen == [torch.float32] * 3, "once for each shape"
