from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_net import SIZE, after_steps, small_config, small_fit, small_net, small_pairs

from lesionseg.data.images import read_probability
from lesionseg.errors import ConfigError

NAMES = ["ISIC_1", "ISIC_2", "ISIC_3"]


def frames(file: Path) -> list[np.ndarray]:
    with Image.open(file) as strip:
        found = []
        for number in range(getattr(strip, "n_frames", 1)):
            strip.seek(number)
            found.append(np.asarray(strip.convert("RGB")))
        return found


def panel(frame: np.ndarray, number: int) -> np.ndarray:
    left = number * (SIZE + 4)
    return frame[16:, left : left + SIZE]


@pytest.mark.parametrize(("word", "index"), [("first", 0), ("ISIC_2", 1)])
def test_a_frame_before_training_and_one_after_each_epoch(tmp_path: Path, word: str, index: int) -> None:
    config = small_config(f"loop.example={word}", "loop.epochs=3", "optim.ema=0.5")
    small_fit(config, tmp_path / "run", val_names=NAMES)
    shown = frames(tmp_path / "run" / "example.png")
    assert len(shown) == 4
    data = small_pairs(3, 1)
    maps = [read_probability(tmp_path / "run" / "example" / f"epoch-{epoch:04d}.png") for epoch in range(4)]
    for frame, probability in zip(shown, maps, strict=True):
        assert frame.shape == (SIZE + 16, 3 * SIZE + 8, 3)
        assert np.array_equal(panel(frame, 0), data.photos[index])
        assert np.array_equal(panel(frame, 1)[..., 0], data.masks[index, 0] * 255)
        assert np.array_equal(panel(frame, 2)[..., 0], np.rint(probability * 255))
    # "before training" and "after epoch 1" are written differently.
    assert not np.array_equal(shown[0][:16], shown[1][:16])
    net = small_net().eval()
    before = net(data[0, index]["image"][None]).sigmoid()[0, 0].detach().numpy()
    np.testing.assert_allclose(maps[0], before, atol=1 / 255)
    assert np.abs(maps[3] - maps[0]).max() > 2 / 255


@pytest.mark.parametrize("steps", [3, 4])
def test_resumed_it_is_the_same_strip(tmp_path: Path, steps: int) -> None:
    config = small_config("loop.example=first")
    small_fit(config, tmp_path / "whole")
    on_step, stop = after_steps(steps)
    small_fit(config, tmp_path / "parts", on_step=on_step, stop_requested=stop)
    # As a kill between a checkpoint and its picture leaves it.
    (tmp_path / "parts" / "example" / "epoch-0001.png").unlink()
    small_fit(config, tmp_path / "parts", resume=True)
    missing = steps % 3 > 0
    whole, parts = (frames(tmp_path / name / "example.png") for name in ("whole", "parts"))
    kept = [whole[0], whole[2]] if missing else whole
    assert all(np.array_equal(a, b) for a, b in zip(kept, parts, strict=True))


def test_it_changes_nothing_in_the_training(tmp_path: Path) -> None:
    small_fit(small_config(), tmp_path / "without")
    small_fit(small_config("loop.example=first"), tmp_path / "with")
    one, two = (tmp_path / name / "checkpoints" / "epoch-0002.model.safetensors" for name in ("without", "with"))
    assert one.read_bytes() == two.read_bytes()
    assert not (tmp_path / "without" / "example.png").exists()


def test_a_case_that_is_not_in_validation(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)loop.example=ISIC_9 is no validation case.*ISIC_1, ISIC_2, ISIC_3"):
        small_fit(small_config("loop.example=ISIC_9"), tmp_path, val_names=NAMES)
    assert not list(tmp_path.iterdir())
