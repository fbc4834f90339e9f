"""Discs, squares and stars as the probability maps of a network would show them."""

import numpy as np
from numpy.typing import NDArray

SIDE = 128


def coordinates(height: int = SIDE, width: int = SIDE) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y of the pixels' centres, 0 to 1 over the picture."""
    y, x = np.mgrid[:height, :width]
    return (x + 0.5) / width, (y + 0.5) / height


def soft(distance: NDArray[np.float64], sharpness: float = 64.0) -> NDArray[np.float32]:
    """Probability from a signed distance, negative inside; 0.5 at the border."""
    return np.clip(0.5 - distance * sharpness, 0, 1).astype(np.float32)


def disc(radius: float, x: float = 0.5, y: float = 0.5, side: int = SIDE) -> NDArray[np.float32]:
    u, v = coordinates(side, side)
    return soft(np.hypot(u - x, v - y) - radius)


def square(half: float, angle: float, x: float = 0.5, y: float = 0.5) -> NDArray[np.float32]:
    """A square by the distance to its sides; its corners are as sharp as the map can hold them."""
    u, v = coordinates()
    a = (u - x) * np.cos(angle) + (v - y) * np.sin(angle)
    b = (v - y) * np.cos(angle) - (u - x) * np.sin(angle)
    return soft(np.maximum(np.abs(a), np.abs(b)) - half)


def blob(seed: int, roughness: float = 0.35, radius: float = 0.25, side: int = SIDE) -> NDArray[np.float32]:
    """A lesion with a wavy border."""
    rng = np.random.default_rng(seed)
    u, v = coordinates(side, side)
    angle = np.arctan2(v - 0.5, u - 0.5)
    orders = np.arange(2, 9)
    waves = sum(
        weight * np.cos(order * angle + phase) / order
        for order, weight, phase in zip(orders, rng.normal(0, roughness, 7), rng.uniform(0, 2 * np.pi, 7), strict=True)
    )
    return soft(np.hypot(u - 0.5, v - 0.5) - radius * (1 + waves), 24.0)
