"""Settings that the machine or the network cannot take are refused before torch is loaded and photos are read."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lesionseg.config import load_config
from lesionseg.errors import ConfigError, LesionsegError
from lesionseg.models import DECODERS, ModelSpec, build_model, load_encoder_weights
from lesionseg.training import limits
from lesionseg.training.limits import require_batches, require_memory, require_possible
from lesionseg.training.run import run_training


def config(*words: str) -> Any:
    return load_config({"data": {"manifest": "x"}}, words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["data.workers=100000"], "data.workers=100000 processes"),
        (["loop.threads=100000"], "loop.threads=100000 threads"),
        (["loop.batch_size=1", "data.image_size=32"], "at data.image_size=32 and loop.batch_size=1"),
        (["data.classes={a: 0}", "optim.loss=ce"], "classes: cannot be used"),
    ],
)
def test_what_is_not_possible_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        require_possible(config(*words))
    assert caught.value.fix


def test_what_is_possible_passes() -> None:
    require_possible(config("data.workers=2", "loop.threads=16", "loop.batch_size=1"))
    require_possible(config("data.image_size=32", "data.classes={a: 0, b: [1, 2]}"))


@pytest.mark.parametrize(
    ("batch", "images", "fix"),
    [
        (1, 9, "loop.batch_size=3,"),
        (4, 9, "loop.batch_size=5,"),
        (8, 9, "loop.batch_size=9,"),
        (45, 1, ""),
        (2, 3, "loop.batch_size=3,"),
    ],
)
def test_a_batch_of_one_small_image(batch: int, images: int, fix: str) -> None:
    asked = config("data.image_size=32", f"loop.batch_size={batch}")
    with pytest.raises(ConfigError, match="BatchNorm needs more than one value per channel") as caught:
        require_batches(asked, images)
    assert fix in caught.value.fix
    assert "data.image_size=64 or more" in caught.value.fix


def test_other_batches_pass() -> None:
    require_batches(config("data.image_size=32", "loop.batch_size=4"), 10)
    require_batches(config("data.image_size=32", "loop.batch_size=45"), 10)
    require_batches(config("data.image_size=[32, 64]", "loop.batch_size=4"), 9)
    require_batches(config("data.image_size=32", "loop.batch_size=4", "model.name=deeplab"), 9)


def test_each_process_has_its_own_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "count_processes", lambda: 4)
    words = ("data.image_size=32", "loop.batch_size=8")
    require_batches(config(*words, "loop.device=cpu"), 16)
    require_batches(config(*words), 20)
    with pytest.raises(ConfigError, match="last batch has 4 of 20 images"):
        require_batches(config(*words, "loop.device=cpu"), 20)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", DECODERS)
def test_the_rule_is_that_of_the_networks(name: str, frozen: bool) -> None:
    weights = load_encoder_weights("random")
    model = build_model(ModelSpec(name, 0.0, 1, weights.spec, (), 1.0), weights).train()
    if frozen:
        model.encoder.freeze()
    try:
        model(torch.zeros(1, 3, 32, 32))
        trains = True
    except ValueError:
        trains = False
    words = [
        f"model.name={name}",
        "data.image_size=32",
        "loop.batch_size=1",
        *(["optim.encoder_lr=0"] if frozen else []),
    ]
    try:
        require_batches(config(*words), 5)
        passes = True
    except ConfigError:
        passes = False
    assert trains == passes


def test_images_that_do_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "machine_memory", lambda: 2**30)
    require_memory(config("data.image_size=128"), 1000)
    with pytest.raises(ConfigError, match=r"data.image_size=\[4096, 4096\] takes 62.5 GiB for 1000 images"):
        require_memory(config("data.image_size=4096"), 1000)
    monkeypatch.setattr(limits, "machine_memory", lambda: None)
    require_memory(config("data.image_size=4096"), 1000)


def test_refused_before_torch_is_loaded_and_without_a_trace(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom lesionseg import api\nfrom lesionseg.errors import ConfigError\n"
        "for word in ('loop.threads=100000', 'data.image_size=320000', 'data.validation_fraction=0.999',\n"
        "             'data.workers=5000', 'loop.epochs=-1', 'optim.decoder_lr=.nan', 'data.classes={a: 0}'):\n"
        "    try:\n        api.train({'data': {'manifest': 'x'}}, 'run', overrides=[word])\n"
        "    except ConfigError as error:\n        assert word.partition('=')[0].split('.')[1] in str(error), error\n"
        "    else:\n        raise AssertionError(word)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_a_last_batch_of_one_is_refused_before_photos_are_read(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lesionseg.training.run.decode_pairs", None)
    asked = tiny.config("data.image_size=32", "loop.batch_size=8", "data.validation_fraction=0.1", "model.name=light")
    with pytest.raises(ConfigError, match=r"loop.batch_size=8, whose last batch has 1 of 9 images"):
        run_training(asked, tmp_path / "run")


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        "data.trimap=4096 optim.loss=ce",
        "data.trimap=1e-300 optim.loss=ce",
        "data.image_size=[32,1024]",
        "data.validation_fraction=1e-300",
        "data.validation_fraction=0.9",
        "data.shift=0.49999999999999994 data.scale=0.9999999999999999 data.rotate=1e-300",
        "data.blur=1e-300 data.noise=1e-300 data.jpeg=1 data.distance=8",
        "data.hair=1 data.artefacts=1 data.cutout=1 data.melanin=3 data.haze=0.9999999999999999",
        "data.brightness=0.9999999999999999 data.colour=0.9999999999999999 data.contrast=0.9999999999999999",
        "model.dropout=0.9999999999999999 model.decoder_width=1e-300",
        "model.name=deeplab model.rates=[4096] model.encoder_width=1 model.decoder_width=1",
        "optim.name=sgd optim.momentum=0.9999999999999999 optim.clip_norm=1e-300",
        "optim.weight_decay=1.7e308",
        "optim.schedule=polynomial optim.power=1.7e308",
        "optim.schedule=cosine optim.warmup=0.9999999999999999",
        "optim.trim=0.9999999999999999",
        "optim.class_weights=[1.7e308]",
        "optim.decoder_lr=5e-324 optim.encoder_lr=5e-324 optim.ema=0.9999999999999999",
        "optim.decoder_lr=1.7e308",
        "loop.epochs=1000000 loop.stop_at.val_loss=1e300 loop.patience=1000000 loop.keep_checkpoints=1000000",
        "loop.batch_size=1000000 loop.seed=4294967295",
        "loop.batch_size=1 data.image_size=64",
        "loop.batch_size=3",
        "loop.example=nosuch",
    ],
)
def test_the_edges_of_the_ranges_train_or_are_one_error(tiny: Any, tmp_path: Path, words: str) -> None:
    small = ("model.name=light", "model.encoder_width=0.35", "model.decoder_width=0.25", "loop.epochs=1")
    asked = tiny.config("data.image_size=32", "loop.batch_size=4", *small, *words.split(" "))
    try:
        result = run_training(asked, tmp_path / "run").status
    except LesionsegError as error:
        result = error.fix
    assert result
