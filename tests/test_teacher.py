"""A run that learns from another: what it minimises, whom it may learn from, and that it stays the same run."""

import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from small_net import same, small_config, small_fit, small_net, small_pairs, small_teacher, timeless
from test_folding import close
from torch import nn

from lesionseg.config import RunConfig
from lesionseg.errors import ConfigError, RunError
from lesionseg.models.packing import unpack
from lesionseg.shipped_models import WEIGHTS, find_model, open_bundle
from lesionseg.training import precision
from lesionseg.training.checkpoint import latest_checkpoint, load_checkpoint, load_model
from lesionseg.training.fit import fit
from lesionseg.training.precision import open_precision
from lesionseg.training.run import run_training
from lesionseg.training.start import starting_model
from lesionseg.training.teacher import Teacher, load_teacher, taught_by

LIGHT = ("loop.epochs=1", "model.name=light", "model.encoder_width=0.35", "model.decoder_width=0.25")


class Brightness(nn.Module):
    """Logits that are the pictures' red, and what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen.append(image)
        return image[:, :1] / 100


def lesson_of(
    net: nn.Module, size: tuple[int, int], *words: str
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    config = small_config(*words)
    place = open_precision(config.loop, torch.device("cpu"))
    return taught_by(Teacher(net, size, "x", ""), config, place, torch.channels_last)


# --- what is minimised ----------------------------------------------------------------------------------------------


def test_the_lesson_by_hand() -> None:
    image = torch.tensor([0, 100], dtype=torch.uint8).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    logits = torch.tensor([[[[0.5, -1.0]]]], requires_grad=True)
    value = lesson_of(Brightness(), (1, 2))(logits, image)
    told, own = (0.5, 1 / (1 + math.exp(-1))), (1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(1)))
    entropies = [-t * math.log(p) - (1 - t) * math.log(1 - p) for t, p in zip(told, own, strict=True)]
    assert value.item() == pytest.approx(sum(entropies) / 2, rel=1e-5)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.flatten().tolist() == pytest.approx([(p - t) / 2 for t, p in zip(told, own, strict=True)], rel=1e-4)


@pytest.mark.parametrize("size", [(16, 16), (64, 96)])
def test_a_teacher_is_shown_pictures_of_its_own_size(size: tuple[int, int]) -> None:
    net = Brightness()
    image = torch.linspace(0, 255, 48).view(1, 1, 1, 48).expand(2, 3, 32, 48).to(torch.uint8)
    plain = lesson_of(Brightness(), (32, 48))(torch.zeros(2, 1, 32, 48), image)
    resized = lesson_of(net, size)(torch.zeros(2, 1, 32, 48), image)
    assert net.seen[0].shape == (2, 3, *size)
    # A ramp stays a ramp, whatever its size.
    assert torch.isclose(plain, resized, rtol=0.01)


def test_its_part_of_the_loss(tmp_path: Path) -> None:
    first: dict[float, float] = {}
    for weight in (0.0, 0.25, 1.0):
        words = ("loop.epochs=1", "loop.batch_size=10", f"optim.teacher_weight={weight}")
        result = small_fit(small_config(*words), tmp_path / str(weight), teacher=small_teacher())
        first[weight] = result.history[0]["train_loss"]
    plain = small_fit(small_config("loop.epochs=1", "loop.batch_size=10"), tmp_path / "none")
    # One step: the loss before any weight has moved.
    assert first[0.0] == plain.history[0]["train_loss"]
    assert same(tmp_path / "0.0", tmp_path / "none")
    assert first[0.25] == pytest.approx(0.75 * first[0.0] + 0.25 * first[1.0])
    assert abs(first[1.0] - first[0.0]) > 0.01


def test_with_the_teacher_alone_masks_teach_nothing(tmp_path: Path) -> None:
    config, upside_down = small_config("optim.teacher_weight=1"), small_pairs(10)
    upside_down.masks[:] = 1 - upside_down.masks
    taught = small_fit(config, tmp_path / "a", teacher=small_teacher())
    other = fit(config, small_net(), upside_down, small_pairs(3, 1), tmp_path / "b", teacher=small_teacher())
    assert same(tmp_path / "a", tmp_path / "b")
    assert taught.history[0]["train_loss"] == other.history[0]["train_loss"]
    # Validation asks for the truth.
    plain = small_fit(small_config("loop.epochs=1"), tmp_path / "c")
    assert taught.history[0]["val_loss"] != plain.history[0]["val_loss"]


def test_who_is_taught_comes_to_agree(tmp_path: Path) -> None:
    words = ("optim.teacher_weight=1", "loop.epochs=12", "model.dropout=0")
    losses = [
        row["train_loss"]
        for row in small_fit(small_config(*words), tmp_path, teacher=small_teacher(), model=small_net(0.0)).history
    ]
    assert losses[-1] < 0.7 * losses[0]


def test_a_teacher_learns_nothing(tmp_path: Path) -> None:
    teacher = small_teacher()
    before = {key: value.clone() for key, value in teacher.net.state_dict().items()}
    small_fit(small_config(), tmp_path, teacher=teacher)
    assert not any(module.training for module in teacher.net.modules() if isinstance(module, nn.Dropout2d))
    assert all(torch.equal(value, before[key]) for key, value in teacher.net.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.net.parameters())


@pytest.mark.long
@pytest.mark.parametrize("words", [(), ("loop.precision=bf16",)])
def test_compiled_it_teaches_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    monkeypatch.setattr(precision.torch, "compile", partial(torch.compile, backend="eager"))
    plain = small_fit(small_config(*words), tmp_path / "plain", teacher=small_teacher())
    compiled = small_fit(small_config(*words, "loop.compile=true"), tmp_path / "compiled", teacher=small_teacher())
    assert timeless(compiled) == timeless(plain)
    assert same(tmp_path / "plain", tmp_path / "compiled")


# --- who teaches ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def old(tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("taught") / "old"
    run_training(tiny.config(*LIGHT, "loop.seed=3", "data.image_size=[64, 96]"), run)
    return run


def test_it_is_the_runs_best_state(tiny, old: Path) -> None:
    assert load_teacher(tiny.config()) is None
    teacher = load_teacher(tiny.config(f"optim.teacher={old}"))
    assert teacher is not None
    model, _, digest = load_model(old)
    assert (teacher.size, teacher.run, teacher.sha256) == ((64, 96), "old", digest)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in teacher.net.modules())
    image = torch.rand(1, 3, 64, 96) * 255
    with torch.no_grad():
        assert close(teacher.net(image), model(image))


def test_a_model_that_ships_teaches(tiny) -> None:
    teacher = load_teacher(tiny.config("optim.teacher=lesionseg-lite"))
    assert teacher is not None
    bundle = open_bundle(find_model("lesionseg-lite"))
    assert (teacher.size, teacher.run, teacher.sha256) == (bundle.size, "lesionseg-lite", bundle.digest(WEIGHTS))
    image = torch.rand(1, 3, *bundle.size) * 255
    with torch.no_grad():
        assert close(teacher.net(image), unpack(bundle)(image))


def test_settings_without_a_teacher_are_listed(tiny, old: Path) -> None:
    words = (f"optim.teacher={old}", "data.trimap=2", "optim.loss=ce", "loop.cache_features=true", "optim.encoder_lr=0")
    with pytest.raises(ConfigError, match="does not go with") as caught:
        load_teacher(tiny.config(*words))
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "the masks have 3 classes",
        "loop.cache_features=true",
    ]


def test_a_run_of_several_classes_or_none_teaches_nothing(tiny, tmp_path: Path) -> None:
    run_training(tiny.config(*LIGHT, "data.trimap=2", "optim.loss=ce"), tmp_path / "three")
    with pytest.raises(ConfigError, match="has 3 classes"):
        run_training(tiny.config(*LIGHT, f"optim.teacher={tmp_path / 'three'}"), tmp_path / "new")
    with pytest.raises(RunError, match="there is no model"):
        run_training(tiny.config(*LIGHT, f"optim.teacher={tmp_path / 'nowhere'}"), tmp_path / "new")


@pytest.mark.long
def test_a_run_tells_of_its_teacher_and_keeps_it(tiny, old: Path, tmp_path: Path) -> None:
    def config(*words: str) -> RunConfig:
        return tiny.config(*LIGHT, f"optim.teacher={tmp_path / 'teacher'}", *words)

    shutil.copytree(old, tmp_path / "teacher")
    run_training(config("loop.epochs=2"), tmp_path / "whole")
    run_training(config(), tmp_path / "parts")
    digest = load_model(old)[2]
    told = {"run": "teacher", "sha256": digest}
    assert json.loads((tmp_path / "parts" / "run.json").read_text())["teacher"] == told
    # Its folder may move, and another's weights may not come into its place.
    (tmp_path / "teacher").rename(tmp_path / "moved")
    run_training(tiny.config(*LIGHT, "loop.seed=4"), tmp_path / "teacher")
    for word in ("optim.teacher=null", "loop.epochs=2"):
        with pytest.raises(ConfigError, match="the teacher is part of the run") as caught:
            run_training(None, tmp_path / "parts", resume=True, overrides=[word])
        assert digest in caught.value.problems[0]
    words = ["loop.epochs=2", f"optim.teacher={tmp_path / 'moved'}"]
    assert run_training(None, tmp_path / "parts", resume=True, overrides=words).status == "finished"
    a, b = (load_checkpoint(latest_checkpoint(tmp_path / name)).model_state for name in ("whole", "parts"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert json.loads((tmp_path / "parts" / "run.json").read_text())["teacher"] == told | {"run": "moved"}


@pytest.mark.long
def test_a_run_without_one_takes_none_on(tiny, old: Path, tmp_path: Path) -> None:
    run_training(tiny.config(*LIGHT), tmp_path / "run")
    assert "teacher" not in json.loads((tmp_path / "run" / "run.json").read_text())
    words = ["loop.epochs=2", f"optim.teacher={old}"]
    with pytest.raises(ConfigError, match="cannot change on resuming"):
        run_training(None, tmp_path / "run", resume=True, overrides=words)
    # Where nothing tells what it was, the run goes on.
    (tmp_path / "run" / "run.json").write_text("{")
    assert run_training(None, tmp_path / "run", resume=True, overrides=words).status == "finished"


def test_narrow_models_start_from_narrow_runs_alone(tiny, old: Path) -> None:
    words = (*LIGHT, f"model.start={old}")
    assert starting_model(tiny.config(*words)).spec.encoder.width == 0.35
    with pytest.raises(ConfigError) as caught:
        starting_model(tiny.config(*words, "model.encoder_width=0.5"))
    assert caught.value.problems == ("its widths are (0.35, 0.25), those asked for (0.5, 0.25)",)
