import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lesionseg.training.adabound import AdaBound, bounds


def run(
    optimizer: type[torch.optim.Optimizer], steps: int, **options: float
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    made = optimizer([parameter], **options)
    trail = []
    for step in range(steps):
        made.zero_grad()
        (parameter**2 * torch.tensor([1.0, 10.0, 0.01]) * (1 + 0.1 * step)).sum().backward()
        made.step()
        trail.append(parameter.detach().clone())
    return trail[-1], trail


@given(st.integers(1, 10**7), st.floats(1e-6, 1), st.floats(1e-5, 1))
def test_bounds_enclose_the_final_rate_and_close_in(step: int, final_lr: float, gamma: float) -> None:
    lower, upper = bounds(step, final_lr, gamma)
    later = bounds(step + 1, final_lr, gamma)
    assert 0 <= lower <= final_lr <= upper
    assert later[0] >= lower
    assert later[1] <= upper


def test_paper_bounds_by_hand() -> None:
    # Section 4: 0.1 - 0.1 / (gamma t + 1) and 0.1 + 0.1 / (gamma t).
    assert bounds(1000, 0.1, 1e-3) == (pytest.approx(0.05), pytest.approx(0.2))


def test_wide_bounds_are_adam() -> None:
    # At gamma -> 0 the interval is (0, infinity).
    bound, _ = run(AdaBound, 20, lr=0.05, gamma=1e-12)
    adam, _ = run(torch.optim.Adam, 20, lr=0.05)
    torch.testing.assert_close(bound, adam, rtol=1e-5, atol=1e-6)


def test_closed_bounds_are_sgd_with_momentum() -> None:
    # At gamma -> infinity every rate is final_lr: SGD on the running mean of the gradient, as dampening 0.9 has it.
    bound, trail = run(AdaBound, 5, lr=0.05, final_lr=0.02, gamma=1e9)
    sgd = torch.tensor([1.0, -2.0, 3.0])
    mean = torch.zeros(3)
    for step in range(5):
        mean = 0.9 * mean + 0.1 * 2 * sgd * torch.tensor([1.0, 10.0, 0.01]) * (1 + 0.1 * step)
        sgd = sgd - 0.02 * mean
        torch.testing.assert_close(trail[step], sgd)
    torch.testing.assert_close(bound, sgd)


def test_every_applied_rate_is_within_the_bounds() -> None:
    parameter = torch.nn.Parameter(torch.tensor([1e-4, 1.0, 1e4]))
    made = AdaBound([parameter], lr=0.1, final_lr=0.01, gamma=0.01)
    for step in range(1, 60):
        made.zero_grad()
        (parameter**2).sum().backward()
        before = parameter.detach().clone()
        made.step()
        mean = made.state[parameter]["exp_avg"]
        rates = (before - parameter.detach()) / mean
        lower, upper = bounds(step, 0.01, 0.01)
        assert (rates >= lower * (1 - 1e-2) - 1e-6).all()
        assert (rates <= upper * (1 + 1e-2) + 1e-6).all()


def test_final_rate_follows_the_schedule() -> None:
    parameter = torch.nn.Parameter(torch.tensor([1.0]))
    made = AdaBound([parameter], lr=0.1, final_lr=0.5, gamma=1e9)
    made.param_groups[0]["lr"] = 0.05
    (parameter * 2).sum().backward()
    made.step()
    # Rate 0.5 * 0.05 / 0.1 = 0.25 on a mean gradient of 0.1 * 2.
    assert math.isclose(parameter.item(), 1 - 0.25 * 0.2, rel_tol=1e-6)


def test_weight_decay_pulls_to_zero() -> None:
    with_decay, _ = run(AdaBound, 10, weight_decay=1.0)
    without, _ = run(AdaBound, 10)
    assert with_decay[2] < without[2]
