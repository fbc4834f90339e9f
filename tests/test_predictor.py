"""Loading a run, and what its predictor promises."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from lesionseg.config import load_config
from lesionseg.errors import ConfigError, NonFiniteError, RunError, ShapeError
from lesionseg.inference.predictor import load_predictor
from lesionseg.models import EncoderSpec, ModelSpec, build_model
from lesionseg.records import Checkpoint
from lesionseg.training.checkpoint import FOLDER, save_checkpoint

SIZE = (64, 96)


def save_run(folder, *, epoch=1, is_best=True, classes=1, config=None, spoil=lambda model: None):
    """A run folder with one checkpoint of random weights."""
    torch.manual_seed(epoch)
    spec = ModelSpec("unet", 0.4, classes, EncoderSpec())
    model = build_model(spec)
    spoil(model)
    settings = load_config({"data": {"manifest": "x", "image_size": list(SIZE)}}).model_dump(mode="json")
    checkpoint = Checkpoint(
        config=settings if config is None else config,
        model_spec=spec.to_json(),
        model_state=model.state_dict(),
        optim_state={},
        optim_groups=(),
        epoch=epoch,
        step=0,
        best={},
        history=({"epoch": 1},) * epoch,
        partial={},
    )
    save_checkpoint(checkpoint, folder / FOLDER, is_best=is_best, keep=5)
    return model.eval()


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "small"
    return folder, save_run(folder)


@pytest.fixture(scope="session")
def predictor(run):
    return load_predictor(run[0], device="cpu", threads=1)


@pytest.fixture(scope="module")
def photos():
    return np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), np.uint8)


def test_it_knows_what_it_was_loaded_from(run, predictor):
    header = json.loads((run[0] / FOLDER / "epoch-0001.json").read_text())
    assert (predictor.name, predictor.checkpoint) == ("small", "epoch-0001")
    assert predictor.sha256 == header["sha256"]["model"]
    assert (predictor.height, predictor.width) == SIZE


def test_probabilities_are_the_sigmoid_of_the_models_logits(run, predictor, photos):
    probability = predictor.infer(photos)
    with torch.no_grad():
        logits = run[1](torch.tensor(photos).permute(0, 3, 1, 2).contiguous())
    assert probability.dtype == np.float32
    assert probability.shape == (4, *SIZE)
    assert probability.min() >= 0
    assert probability.max() <= 1
    assert np.ptp(probability) > 0.01
    np.testing.assert_allclose(probability, torch.sigmoid(logits[:, 0]).numpy(), atol=1e-5)


def test_a_photo_does_not_depend_on_its_batch(predictor, photos):
    together = predictor.infer(photos)
    alone = np.concatenate([predictor.infer(photos[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    # The others replaced: a BatchNorm in training mode would show here.
    other = predictor.infer(np.stack([photos[0], np.zeros_like(photos[0]), np.full_like(photos[0], 255)]))
    np.testing.assert_allclose(other[0], alone[0], atol=1e-5)


def test_the_same_photo_gives_the_same_bits_twice(predictor, photos):
    first, second = predictor.infer(photos[:1]), predictor.infer(photos[:1])
    assert first.tobytes() == second.tobytes()


def test_read_only_photos_are_taken(predictor, photos):
    fixed = photos[:1].copy()
    fixed.flags.writeable = False
    assert predictor.infer(fixed).shape == (1, *SIZE)


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 64, 64, 3), np.uint8),
        np.zeros((64, 96, 3), np.uint8),
        np.zeros((0, 64, 96, 3), np.uint8),
        np.zeros((1, 64, 96, 3), np.float32),
    ],
)
def test_other_shapes_and_dtypes_are_refused(predictor, batch):
    with pytest.raises(ShapeError, match="N x 64 x 96 x 3"):
        predictor.infer(batch)


def test_best_and_last_checkpoint(tmp_path):
    save_run(tmp_path, epoch=1)
    save_run(tmp_path, epoch=2, is_best=False)
    best, last = load_predictor(tmp_path, device="cpu"), load_predictor(tmp_path, checkpoint="last", device="cpu")
    assert (best.checkpoint, last.checkpoint) == ("epoch-0001", "epoch-0002")
    assert best.sha256 != last.sha256


def test_what_does_not_exist_is_named(run, tmp_path):
    with pytest.raises(ConfigError, match=r"'newest'.*\n.*best, last"):
        load_predictor(run[0], checkpoint="newest")
    with pytest.raises(ConfigError, match=r"'warp:9'.*\n.*auto, cpu"):
        load_predictor(run[0], device="warp:9")
    with pytest.raises(ConfigError, match="threads is 0"):
        load_predictor(run[0], threads=0)
    with pytest.raises(RunError, match=r"there is no model '.*none'\nFix: name a run folder"):
        load_predictor(tmp_path / "none")
    with pytest.raises(RunError, match="holds no checkpoint"):
        load_predictor(tmp_path)


def settings_with(**data):
    return load_config({"data": {"manifest": "x", "image_size": list(SIZE)} | data}).model_dump(mode="json")


def test_classes_add_up_and_make_the_lesion(tmp_path, photos):
    save_run(tmp_path / "tri", classes=3, config=settings_with(trimap=2))
    predictor = load_predictor(tmp_path / "tri", device="cpu")
    classes = predictor.infer_classes(photos)
    assert classes.shape == (4, 3, *SIZE)
    np.testing.assert_allclose(classes.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(predictor.infer(photos), classes[:, 2] + classes[:, 1] / 2, atol=1e-6)


def test_a_binary_model_has_two_classes(predictor, photos):
    classes = predictor.infer_classes(photos)
    np.testing.assert_array_equal(classes[:, 1], predictor.infer(photos))
    np.testing.assert_allclose(classes.sum(1), 1, atol=1e-6)


def test_a_run_that_does_not_fit_is_refused(tmp_path):
    save_run(tmp_path / "three", classes=3)
    with pytest.raises(RunError, match="3 classes"):
        load_predictor(tmp_path / "three")
    save_run(tmp_path / "sizeless", config={"data": {"manifest": "x"}})
    with pytest.raises(RunError, match="image_size"):
        load_predictor(tmp_path / "sizeless")
    save_run(tmp_path / "unclear", config={"data": {}})
    with pytest.raises(RunError, match="how masks are read"):
        load_predictor(tmp_path / "unclear")


def test_nan_is_an_error_and_no_empty_mask(tmp_path):
    save_run(tmp_path, spoil=lambda model: model.decoder.head[0].weight.data.fill_(float("nan")))
    with pytest.raises(NonFiniteError, match="gives NaN"):
        load_predictor(tmp_path, device="cpu").infer(np.zeros((1, *SIZE, 3), np.uint8))


@pytest.mark.long
def test_threads_are_set(run):
    before = torch.get_num_threads()
    try:
        load_predictor(run[0], device="cpu", threads=3)
        assert torch.get_num_threads() == 3
        load_predictor(run[0], device="cpu")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_the_room_imports_without_torch():
    code = (
        "import sys, lesionseg.inference.folder, lesionseg.inference.scoring, lesionseg.inference.predictor\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
