"""AdaBound (Luo et al. 2019, arXiv:1902.09843, algorithm 2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

__all__ = ["AdaBound", "bounds"]


def bounds(step: int, final_lr: float, gamma: float) -> tuple[float, float]:
    """Lower and upper bound of every element's learning rate at a step, counted from 1 (the paper's section 4).

    Both meet at ``final_lr``: Adam at first, SGD in the end.
    """
    return final_lr * (1 - 1 / (gamma * step + 1)), final_lr * (1 + 1 / (gamma * step))


class AdaBound(torch.optim.Optimizer):
    """Adam whose element-wise learning rates are clipped to bounds that close in on SGD's.

    Args:
        params: parameters or groups.
        lr: Adam's learning rate.
        betas: decay of the running means of the gradient and of its square.
        final_lr: SGD's learning rate, which the bounds meet at; scaled along when a schedule changes ``lr``.
        gamma: how fast the bounds close.
        eps: added to the root of the mean square.
        weight_decay: L2 penalty.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        final_lr: float = 0.1,
        gamma: float = 1e-3,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "final_lr": final_lr,
            "gamma": gamma,
            "eps": eps,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            group.setdefault("base_lr", group["lr"])

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        step = int(state["step"])
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        first, second = group["betas"]
        state["exp_avg"].lerp_(gradient, 1 - first)
        state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        size = group["lr"] * math.sqrt(1 - second**step) / (1 - first**step)
        scale = group["lr"] / group["base_lr"] if group["base_lr"] else 1.0
        rates = (size / (state["exp_avg_sq"].sqrt() + group["eps"])).clamp_(
            *bounds(step, group["final_lr"] * scale, group["gamma"])
        )
        parameter.sub_(rates.mul_(state["exp_avg"]))
