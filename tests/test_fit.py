import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lesionseg.config import RunConfig
from lesionseg.data.loader import PairDataset
from lesionseg.data.transforms import augmentation
from lesionseg.errors import NonFiniteError
from lesionseg.models import EncoderSpec, ModelSpec, SegmentationModel, build_model
from lesionseg.training.checkpoint import FOLDER, checkpoint_files, latest_checkpoint, load_checkpoint
from lesionseg.training.fit import FitResult, fit
from lesionseg.training.validation import overlaps
from lesionseg.training.watch import Progress

Config = Callable[..., RunConfig]


def pairs(count: int, seed: int, config: RunConfig | None = None) -> PairDataset:
    """Bright squares on noise."""
    rng = np.random.default_rng(seed)
    photos = rng.integers(0, 120, (count, 64, 64, 3), np.uint8)
    masks = np.zeros((count, 1, 64, 64), np.uint8)
    for photo, mask in zip(photos, masks, strict=True):
        y, x = rng.integers(4, 28, 2)
        photo[y : y + 32, x : x + 32] += 100
        mask[0, y : y + 32, x : x + 32] = 1
    return PairDataset(photos, masks, augmentation(config.data, config.loop.seed) if config else None)


def model() -> SegmentationModel:
    torch.manual_seed(1)
    return build_model(ModelSpec("unet", 0.4, 1, EncoderSpec()))


def run(config: RunConfig, folder: Path, **options: object) -> FitResult:
    return fit(config, model(), pairs(10, 0, config), pairs(3, 1), folder, **options)  # type: ignore[arg-type]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(latest_checkpoint(folder)).model_state)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def timeless(result: FitResult) -> list[dict[str, object]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in result.history]


@pytest.mark.long
@pytest.mark.parametrize(
    ("workers", "ema"),
    [(0, 0), pytest.param(2, 0, marks=pytest.mark.long), pytest.param(0, 0.9, marks=pytest.mark.long)],
)
def test_four_epochs_are_two_and_two_more(tiny, tmp_path: Path, workers: int, ema: float) -> None:
    words = ["loop.epochs=4", f"data.workers={workers}", f"optim.ema={ema}", "data.rotate90=0.5", "data.brightness=0.2"]
    whole = run(tiny.config(*words), tmp_path / "whole")
    run(tiny.config(*words, "loop.epochs=2"), tmp_path / "parts")
    checkpoint = load_checkpoint(latest_checkpoint(tmp_path / "parts"))
    parts = run(tiny.config(*words), tmp_path / "parts", resume_from=checkpoint)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert timeless(whole) == timeless(parts)
    optimizers = [load_checkpoint(latest_checkpoint(tmp_path / name)).optim_state for name in ("whole", "parts")]
    assert same(*map(dict, optimizers))


@pytest.mark.long
def test_workers_change_nothing(tiny, tmp_path: Path) -> None:
    for workers in (0, 2):
        run(tiny.config(f"data.workers={workers}"), tmp_path / str(workers))
    assert same(weights(tmp_path / "0"), weights(tmp_path / "2"))


@pytest.mark.long
def test_interrupted_inside_an_epoch_goes_on_exactly(tiny, tmp_path: Path) -> None:
    whole = run(tiny.config(), tmp_path / "whole")
    steps: list[Progress] = []
    first = run(tiny.config(), tmp_path / "parts", on_step=steps.append, stop_requested=lambda: len(steps) == 4)
    assert (first.status, len(first.history)) == ("interrupted", 1)
    checkpoint = load_checkpoint(latest_checkpoint(tmp_path / "parts"))
    assert (checkpoint.epoch, checkpoint.step) == (1, 1)
    second = run(tiny.config(), tmp_path / "parts", resume_from=checkpoint, on_step=steps.append)
    assert [(p.epoch, p.step) for p in steps] == [(e, s) for e in (1, 2) for s in (1, 2, 3)]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert timeless(whole) == timeless(second)


@pytest.mark.long
def test_another_seed_is_another_run(tiny, tmp_path: Path) -> None:
    for seed in (0, 1):
        run(tiny.config(f"loop.seed={seed}"), tmp_path / str(seed))
    assert not same(weights(tmp_path / "0"), weights(tmp_path / "1"))


def test_frozen_encoder_stays_to_the_last_bit(tiny, tmp_path: Path) -> None:
    before = {key: value.clone() for key, value in model().state_dict().items()}
    run(tiny.config("optim.encoder_lr=0"), tmp_path)
    after = weights(tmp_path)
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert not {key for key in moved if key.startswith("encoder.")}
    assert {key for key, _ in model().decoder.named_parameters(prefix="decoder")} <= moved


def test_finetuned_encoder_moves(tiny, tmp_path: Path) -> None:
    before = {key: value.clone() for key, value in model().state_dict().items()}
    run(tiny.config(), tmp_path)
    after = weights(tmp_path)
    fixed = {key for key in before if torch.equal(before[key], after[key])}
    assert fixed == {"encoder.mean", "encoder.std"}


@pytest.mark.long
def test_average_of_weights_is_what_is_kept(tiny, tmp_path: Path) -> None:
    run(tiny.config("optim.ema=0.75", "loop.epochs=1"), tmp_path)
    checkpoint = load_checkpoint(latest_checkpoint(tmp_path))
    key = "decoder.head.0.weight"
    trail: list[torch.Tensor] = []
    net = model()
    fit(
        tiny.config("loop.epochs=1"),
        net,
        pairs(10, 0, tiny.config()),
        pairs(3, 1),
        tmp_path / "plain",
        on_step=lambda _: trail.append(net.state_dict()[key].clone()),
    )
    average = trail[0]
    for weight in trail[1:]:
        average = 0.75 * average + 0.25 * weight
    torch.testing.assert_close(checkpoint.model_state[key], average)
    assert torch.equal(checkpoint.optim_state["trained." + key], trail[-1])


@pytest.mark.long
def test_it_learns(tiny, tmp_path: Path) -> None:
    result = run(tiny.config("loop.epochs=12", "model.dropout=0", "data.flip=0"), tmp_path)
    assert result.history[-1]["train_loss"] < 0.6 * result.history[0]["train_loss"]
    assert max(row["val_dice"] for row in result.history) > 0.8
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert len(lines) == 13
    assert lines[0].startswith(
        "epoch,train_loss,val_loss,val_dice,val_iou,val_soft_dice,val_soft_iou,val_accuracy,encoder_lr"
    )


def test_stop_rules_hold_on_resuming_too(tiny, tmp_path: Path) -> None:
    words = ["loop.epochs=5", "loop.stop_at={val_loss: 100}"]
    first = run(tiny.config(*words), tmp_path)
    assert (first.status, len(first.history)) == ("stopped", 1)
    again = run(tiny.config(*words), tmp_path, resume_from=load_checkpoint(latest_checkpoint(tmp_path)))
    assert (again.status, len(again.history)) == ("stopped", 1)


def test_each_epoch_is_told_once(tiny, tmp_path: Path) -> None:
    rows: list[int] = []
    run(tiny.config(), tmp_path, on_epoch=lambda row: rows.append(row["epoch"]))
    assert rows == [1, 2]


@pytest.mark.long
def test_best_checkpoint_stays(tiny, tmp_path: Path) -> None:
    result = run(tiny.config("loop.epochs=4", "loop.keep_checkpoints=1"), tmp_path)
    best = max(result.history, key=lambda row: row["val_dice"])["epoch"]
    stems = {path.stem for path in checkpoint_files(tmp_path / FOLDER)}
    assert stems == {f"epoch-{best:04d}", "epoch-0004"}


def test_nan_stops_with_names_and_keeps_the_checkpoint(tiny, tmp_path: Path) -> None:
    net = model()
    names = [f"case{i}" for i in range(10)]

    def poison(row: object) -> None:
        with torch.no_grad():
            net.decoder.head[0].weight.fill_(math.nan)

    with pytest.raises(NonFiniteError, match=r"(?s)epoch 2, step 1: .* a batch with these pictures.*case\d.*--resume"):
        fit(tiny.config(), net, pairs(10, 0), pairs(3, 1), tmp_path, on_epoch=poison, names=names)
    assert load_checkpoint(latest_checkpoint(tmp_path)).epoch == 1


def test_the_picture_that_breaks_the_network_is_named(tiny, tmp_path: Path) -> None:
    data = pairs(8, 0)
    data.photos[5] = 255  # the only picture that is bright all over

    class Fragile(torch.nn.Module):
        def forward(self, features: dict[str, torch.Tensor]) -> torch.Tensor:
            x = features["input"]
            return torch.where(x.mean((1, 2, 3), keepdim=True) > 2, math.nan, x[:, :1]) * self.scale

        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

    net = model()
    net.decoder = Fragile()
    names = [f"case{i}" for i in range(8)]
    with pytest.raises(NonFiniteError, match="these pictures") as caught:
        fit(tiny.config("loop.batch_size=8"), net, data, pairs(3, 1), tmp_path, names=names)
    assert caught.value.problems == ("case5",)


def test_overlaps_by_hand() -> None:
    truth = torch.zeros(2, 1, 2, 2)
    truth[0, 0, 0] = 1
    logits = torch.full((2, 1, 2, 2), -100.0)
    logits[0, 0, 0, 0] = 0.0
    # First: p = (1/2, 0), truth = (1, 1): one of two hit. Second: both empty.
    expected = torch.tensor([[2 / 3, 1 / 2, 1 / 2.5, 0.5 / 2, 3 / 4], [1.0, 1.0, 1.0, 1.0, 1.0]])
    torch.testing.assert_close(overlaps(logits, truth), expected, atol=1e-6, rtol=0)


def test_overlaps_of_three_classes_by_hand() -> None:
    truth = torch.tensor([[[[0.0, 0.0], [1.0, 1.0]]]])
    predicted = torch.tensor([[[0, 0], [1, 0]]])
    logits = torch.nn.functional.one_hot(predicted, 3).permute(0, 3, 1, 2) * 200.0
    # Class 0: 2 of 2 found, one too many; class 1: 1 of 2; class 2: absent from both, so 1.
    dice, iou = (4 / 5 + 2 / 3 + 1) / 3, (2 / 3 + 1 / 2 + 1) / 3
    torch.testing.assert_close(
        overlaps(logits, truth), torch.tensor([[dice, iou, dice, iou, 3 / 4]]), atol=1e-6, rtol=0
    )


@pytest.mark.long
@pytest.mark.parametrize(
    "words",
    [
        ["optim.name=sgd", "optim.schedule=polynomial", "optim.momentum=0.5"],
        ["optim.name=adamw", "optim.schedule=cosine", "optim.warmup=0.3", "optim.weight_decay=0.01"],
        ["optim.name=adabound", "optim.clip_norm=0.5", "optim.ema=0.5"],
    ],
    ids=["sgd", "adamw", "adabound"],
)
def test_every_optimiser_and_schedule_resumes_exactly(tiny, tmp_path: Path, words: list[str]) -> None:
    whole = run(tiny.config(*words), tmp_path / "whole")
    steps: list[Progress] = []
    run(tiny.config(*words), tmp_path / "parts", on_step=steps.append, stop_requested=lambda: len(steps) == 4)
    parts = run(
        tiny.config(*words), tmp_path / "parts", resume_from=load_checkpoint(latest_checkpoint(tmp_path / "parts"))
    )
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert timeless(whole) == timeless(parts)


def test_clipping_shortens_the_steps(tiny, tmp_path: Path) -> None:
    start = model().state_dict()["decoder.head.0.weight"].clone()
    moves = []
    for words in ([], ["optim.clip_norm=0.001"]):
        run(tiny.config("optim.name=sgd", "loop.epochs=1", *words), tmp_path / str(len(words)))
        moves.append((weights(tmp_path / str(len(words)))["decoder.head.0.weight"] - start).norm())
    assert moves[1] < 0.2 * moves[0]


@pytest.mark.long
@pytest.mark.parametrize("loss", ["ce", "ce_dice", "focal"])
def test_three_classes_train(tiny, tmp_path: Path, loss: str) -> None:
    torch.manual_seed(0)
    net = build_model(ModelSpec("pix2pix", 0.1, 3, EncoderSpec()))
    data = pairs(8, 0)
    data.masks[:, :, :20] = 2
    words = [f"optim.loss={loss}", "loop.epochs=3", "optim.decoder_lr=0.001", "data.flip=0"]
    result = fit(tiny.config(*words), net, data, data, tmp_path)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    assert result.history[-1]["val_accuracy"] > 1 / 3


@pytest.mark.long
def test_kept_features_train_as_computed_ones_do(tiny, tmp_path: Path) -> None:
    words = ["optim.encoder_lr=0", "loop.epochs=3", "data.flip=0.5"]
    notices: list[str] = []
    plain = run(tiny.config(*words), tmp_path / "plain")
    kept = run(tiny.config(*words, "loop.cache_features=true"), tmp_path / "kept", on_notice=notices.append)
    assert notices == ["computing the frozen encoder's features of 13 pictures once"]
    for one, other in zip(plain.history, kept.history, strict=True):
        assert other["train_loss"] == pytest.approx(one["train_loss"], rel=0.01)
        assert other["val_loss"] == pytest.approx(one["val_loss"], rel=0.05)
    again = run(tiny.config(*words, "loop.cache_features=true", "loop.epochs=1"), tmp_path / "again")
    assert len(again.history) == 1
    checkpoint = load_checkpoint(latest_checkpoint(tmp_path / "again"))
    run(tiny.config(*words, "loop.cache_features=true"), tmp_path / "again", resume_from=checkpoint)
    assert same(weights(tmp_path / "again"), weights(tmp_path / "kept"))
