"""Figures: looked at by their pixels, where a colour says what is drawn."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lesionseg.data.images import encode_jpeg, encode_mask_png, encode_probability_png
from lesionseg.errors import ComparisonError, RunError
from lesionseg.evaluation.drawing import PALETTE
from lesionseg.evaluation.figures import dice_scatter, loss_curves, overlap_curves, pick_cases
from lesionseg.evaluation.panels import EXTRA, MISSED, sample_panels
from lesionseg.evaluation.runs import HISTORY, RunResult
from lesionseg.records import Case


def make_run(name="run", dice=(0.9,), *, probabilities=Path(), threshold=0.5, epochs=8, **history):
    steps = np.arange(1, epochs + 1)
    table = pd.DataFrame(dict.fromkeys(HISTORY, 0.2 + 0.5 / steps)).assign(epoch=steps, **history)
    per_image = pd.DataFrame({"case_id": [f"c{i}" for i in range(len(dice))], "dice": list(dice)})
    return RunResult(name, Path(name), {}, table, per_image, {"threshold": threshold}, probabilities)


def pixels(png):
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"))


def where(png, colour):
    """``bool H W``: pixels of exactly this colour."""
    return (pixels(png) == np.frombuffer(bytes.fromhex(colour[1:]), np.uint8)).all(axis=2)


@pytest.fixture
def one_case(tmp_path):
    """A 40 x 60 photo with a lesion of 20 x 20, and a folder for probability maps of it."""
    truth = np.zeros((40, 60), bool)
    truth[10:30, 20:40] = True
    (tmp_path / "photo.jpg").write_bytes(encode_jpeg(np.full((40, 60, 3), 200, np.uint8)))
    (tmp_path / "mask.png").write_bytes(encode_mask_png(truth))

    def predict(probability):
        (tmp_path / "c0.png").write_bytes(encode_probability_png(probability.astype(np.float32)))
        return tmp_path

    return Case("c0", tmp_path / "photo.jpg", tmp_path / "mask.png"), truth, predict


def test_pick_cases():
    picked = pick_cases([make_run(dice=[0.5, 0.9, 0.1, 0.7, 0.3, 0.8, 0.6])])
    assert picked == {"best": ["c1", "c5"], "median": ["c3", "c6"], "worst": ["c2", "c4"]}


def test_pick_cases_by_the_mean_over_runs():
    first, second = make_run("a", [0.9, 0.5, 0.8]), make_run("b", [0.1, 0.6, 0.9])
    assert pick_cases([first, second])["best"] == ["c2", "c1"]
    assert pick_cases([first])["best"] == ["c0", "c2"]


@pytest.mark.parametrize("count", range(1, 8))
def test_no_case_is_picked_twice(count):
    picked = [case_id for ids in pick_cases([make_run(dice=np.linspace(0, 1, count))]).values() for case_id in ids]
    assert len(picked) == len(set(picked)) == min(count, 6)


def test_equal_scores_are_picked_in_a_fixed_order():
    picked = pick_cases([make_run(dice=[0.5] * 60)])
    ids = sorted(f"c{i}" for i in range(60))
    assert picked == {"best": ids[:2], "median": ids[29:31], "worst": ids[:-3:-1]}


@pytest.mark.parametrize("draw", [loss_curves, overlap_curves])
def test_curves_show_every_run_and_are_reproducible(draw):
    runs = [make_run(f"run {i}", val_loss=0.1 * (i + 1), val_dice=0.1 * i, val_iou=0.1 * i) for i in range(3)]
    png = draw(runs)
    assert png == draw(runs)
    lower = slice(pixels(png).shape[0] // 4, None)
    for colour in PALETTE[:3]:
        assert where(png, colour)[lower].sum() > 100
    assert not where(png, PALETTE[3]).any()


def test_a_single_epoch_is_visible():
    png = loss_curves([make_run(epochs=1, val_loss=0.3, train_loss=0.7)])
    assert where(png, PALETTE[0])[pixels(png).shape[0] // 4 :].sum() > 20


def test_an_exploding_epoch_does_not_flatten_the_others():
    steady = np.linspace(0.8, 0.2, 30)
    spiked = np.where(np.arange(30) == 3, 5e4, steady)
    png = loss_curves([make_run(epochs=30, train_loss=steady, val_loss=spiked)])
    drawn = where(png, PALETTE[0])
    right = drawn[:, drawn.shape[1] // 2 : int(drawn.shape[1] * 0.98)]
    right[: drawn.shape[0] // 6] = False
    rows = np.flatnonzero(right.any(axis=1))
    # On a linear axis the second half would lie in one flat line of a few pixels.
    assert rows.max() - rows.min() > 20


def test_scatter_has_the_first_run_on_the_vertical_axis():
    high, low = make_run("high", [0.95] * 40), make_run("low", [0.35] * 40)
    for first, second, above in ((high, low, True), (low, high, False)):
        image = pixels(dice_scatter(first, second)).astype(int)
        # Forty half transparent points over each other are nearly opaque blue.
        rows, columns = np.nonzero((np.abs(image - [0, 114, 178]) < 12).all(axis=2))
        assert rows.size
        assert (rows.mean() < image.shape[0] / 2) == above
        assert (columns.mean() < image.shape[1] / 2) == above


def test_errors_are_coloured(one_case):
    case, truth, predict = one_case
    perfect = sample_panels([make_run(probabilities=predict(truth))], [case])
    legend = (where(perfect, EXTRA).sum(), where(perfect, MISSED).sum())
    extra = truth.copy()
    extra[:, 45:] = True
    too_much = sample_panels([make_run(probabilities=predict(extra))], [case])
    assert where(too_much, EXTRA).sum() > legend[0] + 1000
    assert where(too_much, MISSED).sum() == legend[1]
    missed = truth.copy()
    missed[:, :30] = False
    too_little = sample_panels([make_run(probabilities=predict(missed))], [case])
    assert where(too_little, EXTRA).sum() == legend[0]
    assert where(too_little, MISSED).sum() > legend[1] + 1000


def test_masks_use_the_threshold_of_the_scores(one_case):
    case, truth, predict = one_case
    folder = predict(truth * 0.7)
    at_half = sample_panels([make_run(probabilities=folder)], [case])
    at_nine = sample_panels([make_run(probabilities=folder, threshold=0.9)], [case])
    assert where(at_nine, MISSED).sum() > where(at_half, MISSED).sum() + 1000


def test_many_runs_wrap(one_case):
    case, truth, predict = one_case
    folder = predict(truth)
    sizes = [
        pixels(sample_panels([make_run(f"r{i}", probabilities=folder) for i in range(n)], [case])).shape for n in (3, 4)
    ]
    assert sizes[0][1] == sizes[1][1]
    assert sizes[1][0] > 1.5 * sizes[0][0]


def test_a_map_of_another_size_is_refused(one_case):
    case, truth, predict = one_case
    with pytest.raises(RunError, match=r"c0\.png has the size \(39, 60\), its true mask \(40, 60\)"):
        sample_panels([make_run(probabilities=predict(truth[1:]))], [case])


def test_a_case_without_mask_is_refused(one_case):
    case, truth, predict = one_case
    with pytest.raises(ComparisonError, match="c0 has no mask"):
        sample_panels([make_run(probabilities=predict(truth))], [Case("c0", case.image)])


@pytest.mark.long
@pytest.mark.parametrize("name", ["$x_{$", "_hidden", "日本\n語 \x1b[31m", "a\\b$", "n" * 300, "{}%s", "<b>"])
def test_any_name_can_be_drawn(name, one_case):
    case, truth, predict = one_case
    run = make_run(name, probabilities=predict(truth))
    for png in (loss_curves([run]), overlap_curves([run]), dice_scatter(run, make_run("other"))):
        assert pixels(png).std() > 0
    assert pixels(sample_panels([run], [case])).shape[1] < 2000


def test_drawing_leaves_matplotlib_as_it_was():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    loss_curves([make_run()])
    assert dict(mpl.rcParams) == before


def test_scoring_and_reading_load_nothing_heavy():
    code = (
        "import sys, lesionseg.evaluation.metrics, lesionseg.evaluation.report\n"
        "heavy = {'matplotlib', 'scipy', 'jinja2', 'rich', 'torch', 'monai'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
