import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionseg.errors import ConfigError
from lesionseg.training.losses import BINARY_LOSSES, CLASS_LOSSES, find_loss, trimmed

TRUTH = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
CLASSES = torch.tensor([[[[2.0, 1.0], [0.0, 0.0]]]])


def certain(classes: torch.Tensor, count: int = 3) -> torch.Tensor:
    """Logits that leave no doubt."""
    return torch.nn.functional.one_hot(classes[:, 0].long(), count).permute(0, 3, 1, 2) * 60.0 - 30


def test_bce_by_hand() -> None:
    # sigmoid(0) = 1/2 everywhere: every pixel costs log 2.
    assert find_loss("bce", 1)(torch.zeros(1, 1, 2, 2), TRUTH).item() == pytest.approx(math.log(2))


def test_dice_by_hand() -> None:
    # p = 1/2: 2 * 1 / (2 + 2) = 1/2, up to MONAI's smoothing of 1e-5.
    assert find_loss("dice", 1)(torch.zeros(1, 1, 2, 2), TRUTH).item() == pytest.approx(0.5, abs=1e-5)


def test_focal_by_hand() -> None:
    # (1 - 1/2)^2 log 2 for every pixel.
    assert find_loss("focal", 1)(torch.zeros(1, 1, 2, 2), TRUTH).item() == pytest.approx(math.log(2) / 4)


def test_tversky_by_hand() -> None:
    # tp = 1, fp = 1, fn = 1: 1 - 1 / (1 + 0.3 + 0.7).
    assert find_loss("tversky", 1)(torch.zeros(1, 1, 2, 2), TRUTH).item() == pytest.approx(0.5, abs=1e-4)


def test_cross_entropy_by_hand() -> None:
    assert find_loss("ce", 3)(torch.zeros(1, 3, 2, 2), CLASSES).item() == pytest.approx(math.log(3))


@pytest.mark.parametrize("name", list(BINARY_LOSSES))
def test_right_answer_costs_least(name: str) -> None:
    right, wrong = (TRUTH * 2 - 1) * 30, (1 - TRUTH * 2) * 30
    assert find_loss(name, 1)(right, TRUTH).item() == pytest.approx(0, abs=1e-4)
    assert find_loss(name, 1)(wrong, TRUTH).item() > 0.9


@pytest.mark.parametrize("name", list(CLASS_LOSSES))
def test_right_classes_cost_least(name: str) -> None:
    loss = find_loss(name, 3)
    assert loss(certain(CLASSES), CLASSES).item() == pytest.approx(0, abs=1e-4)
    assert loss(certain((CLASSES + 1) % 3), CLASSES).item() > 0.9


@pytest.mark.parametrize("name", list(BINARY_LOSSES))
def test_large_logits_stay_finite(name: str) -> None:
    logits = torch.tensor([[[[1e4, -1e4], [1e4, -1e4]]]], requires_grad=True)
    loss = find_loss(name, 1)(logits, TRUTH)
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
    bce, dice, both = (find_loss(name, 1)(logits, truth) for name in ("bce", "dice", "bce_dice"))
    torch.testing.assert_close(both, bce + dice)
    assert 0 <= dice <= 1


@pytest.mark.parametrize(("name", "classes"), [("ce", 1), ("bce", 3)])
def test_a_loss_for_other_channels_is_refused(name: str, classes: int) -> None:
    with pytest.raises(ConfigError, match=f"no loss '{name}' for {classes}"):
        find_loss(name, classes)


@given(part=st.floats(0.01, 0.99), count=st.integers(1, 9), seed=st.integers(0, 99))
@settings(deadline=None)
def test_trimmed_is_the_mean_of_the_smallest(part: float, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, truth = torch.randn(count, 1, 4, 4, generator=generator), torch.ones(count, 1, 4, 4)
    loss = find_loss("bce_dice", 1)
    each = sorted(loss(logits[i : i + 1], truth[i : i + 1]).item() for i in range(count))
    kept = max(1, math.ceil(count * (1 - part) - 1e-9))
    assert trimmed(loss, part)(logits, truth).item() == pytest.approx(sum(each[:kept]) / kept, rel=1e-5)


def test_trimmed_learns_nothing_from_the_worst_picture() -> None:
    logits = torch.tensor([3.0, -3.0, 2.0, 1.0]).view(4, 1, 1, 1).repeat(1, 1, 2, 2).requires_grad_()
    trimmed(find_loss("bce", 1), 0.25)(logits, torch.ones(4, 1, 2, 2)).backward()
    assert logits.grad is not None
    assert logits.grad.flatten(1).abs().sum(1).ne(0).tolist() == [True, False, True, True]


def test_nothing_trimmed_is_the_loss_itself() -> None:
    loss = find_loss("dice", 1)
    assert trimmed(loss, 0) is loss
    assert trimmed(loss, 0.5)(torch.zeros(1, 1, 2, 2), TRUTH).item() == pytest.approx(0.5, abs=1e-5)
