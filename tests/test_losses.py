import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionseg.training.losses import LOSSES, bce, bce_dice, dice

TRUTH = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])


def test_bce_by_hand() -> None:
    # sigmoid(0) = 1/2 everywhere: every pixel costs log 2.
    assert bce(torch.zeros(1, 1, 2, 2), TRUTH).item() == pytest.approx(math.log(2))


def test_dice_by_hand() -> None:
    # p = 1/2: 2 * 1 / (2 + 2) = 1/2, up to MONAI's smoothing of 1e-5.
    assert dice(torch.zeros(1, 1, 2, 2), TRUTH).item() == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("name", list(LOSSES))
def test_right_answer_costs_least(name: str) -> None:
    right, wrong = (TRUTH * 2 - 1) * 30, (1 - TRUTH * 2) * 30
    assert LOSSES[name](right, TRUTH).item() == pytest.approx(0, abs=1e-4)
    assert LOSSES[name](wrong, TRUTH).item() > 0.9


@pytest.mark.parametrize("name", list(LOSSES))
def test_large_logits_stay_finite(name: str) -> None:
    logits = torch.tensor([[[[1e4, -1e4], [1e4, -1e4]]]], requires_grad=True)
    loss = LOSSES[name](logits, TRUTH)
    loss.backward()
    assert math.isfinite(loss.item())
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_sum_is_the_sum(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 1, 4, 4, generator=generator)
    truth = (torch.rand(2, 1, 4, 4, generator=generator) > 0.5).float()
    torch.testing.assert_close(bce_dice(logits, truth), bce(logits, truth) + dice(logits, truth))
    assert 0 <= dice(logits, truth) <= 1
