"""A run to an exported file, which is compared with the run before anybody sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lesionseg.config import load_config
from lesionseg.errors import RunError
from lesionseg.evaluation.runs import load_info
from lesionseg.export.bundle import Checked, card_path, describe, write_card
from lesionseg.export.formats import FORMATS, Infer
from lesionseg.export.graph import ExportModule, prepare
from lesionseg.export.photos import ScoredPhotos, generated_photos, mean_dice, read_photos, run_parts
from lesionseg.export.quantize import Calibration, Ranges
from lesionseg.export.requests import BY_MASKS, Request
from lesionseg.inference.exported import ExportInfo
from lesionseg.inference.predictor import TorchPredictor, load_torch
from lesionseg.io.ownership import check_outputs, write_output
from lesionseg.models import SegmentationModel
from lesionseg.shipped_models import is_bundle
from lesionseg.training.places import checkpoint_folder

__all__ = [
    "Exported",
    "Say",
    "compare_models",
    "export_outputs",
    "export_run",
    "require_good",
    "run_inputs",
    "varied",
]

_CALIBRATION = 128
_COMPARED = 4
# What rounding explains; integers are judged by their masks instead. In float16 the largest difference says little: on
# the steep side of an outline a single pixel may move by 0.1.
_LARGEST, _MEAN = 1e-3, 5e-3

Say = Callable[[str], None]
"""Is told what is being done."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export came to.

    Attributes:
        path: the file.
        card: the text beside it.
        bytes: its size.
        checked: how it compares with the run.
    """

    path: Path
    card: Path
    bytes: int
    checked: Checked


def export_run(
    run: Path,
    output: Path | None = None,
    *,
    form: str = "onnx",
    precision: str = "float32",
    size: tuple[int, int] | None = None,
    max_drop: float = 0.5,
    qat: int = 0,
    manifest: str | Path | None = None,
    root: str | Path | None = None,
    say: Say = lambda _: None,
    overwrite: bool = False,
) -> Exported:
    """Exports a run's best state.

    The file takes photos as ``uint8 N H W 3`` RGB and gives ``float32 N H W`` probabilities (and, for several classes,
    ``float32 N C H W``). float32 and float16 are compared with torch by numbers; int8 and dynamic by the mean Dice on
    the run's validation photos. A file that differs is not written. int8 is calibrated on training photos.

    Args:
        run: a run folder; or a bundle, for float32 and float16.
        output: the file; by default ``RUN/export/NAME-PRECISION`` with the format's suffix, of a bundle ``NAME-...`` in
            the working folder.
        form: ``onnx``, ``openvino``, ``torch-export`` or ``executorch``; the last three need their extras.
        precision: ``float32``, ``float16``, ``int8`` or ``dynamic`` (int8 weights, with ranges found anew for every
            photo), as the format has them.
        size: height and width of the input, multiples of 32; by default those of the training.
        max_drop: Dice points (hundredths) that int8 and dynamic may lose.
        qat: epochs of training with int8's rounding before it is exported; the run itself stays as it is.
        manifest, root: the training data, where they are not where they were.
        say: told what is being done.
        overwrite: replace files that lesionseg did not write, or that were changed since; never an input.

    Raises:
        ConfigError: an argument does not exist, does not fit, or its extra is not installed.
        RunError: the run is damaged, or the exported model is not as good as the run's.
        DataError: the training photos that int8 and dynamic need are not there.
        OutputError: the file cannot be written, or listing every input and file of other origin in the way.
    """
    Request(form, precision, size, max_drop, qat).check(run, output)
    trained = load_torch(run, device="cpu")
    trained = trained if size is None else varied(trained, size=size)
    folder = Path() if is_bundle(run) else run / "export"
    path = output or folder / f"{trained.name}-{precision}{FORMATS[form].suffix}"
    check_outputs(export_outputs(path, form), inputs=run_inputs(run, manifest), overwrite=overwrite)
    info = describe(run, trained, precision, qat)
    calibration, judging = _photos(run, trained, precision, manifest, root, say)
    module = ExportModule(prepare(trained.model), trained.labels)
    if qat and calibration:
        calibration = replace(calibration, ranges=_tuned(run, module, info, manifest, root, say))
    say("tracing and converting the network")
    built = FORMATS[form].build(module, info, calibration)
    say("comparing it with the run")
    checked = compare_models(built.infer, trained, judging)
    require_good(checked, precision, max_drop, path)
    for suffix, content in built.files.items():
        write_output(path.with_suffix(suffix), content)
    return Exported(path, write_card(path, info, checked), sum(map(len, built.files.values())), checked)


def export_outputs(path: Path, form: str) -> list[Path]:
    """Return every file that an export in a format writes: the file, what belongs to it, and its card."""
    suffixes = (FORMATS[form].suffix, *FORMATS[form].beside)
    return [*(path.with_suffix(suffix) for suffix in suffixes), card_path(path)]


def run_inputs(run: Path, *others: str | Path | None) -> list[Path]:
    """Return what is read of a run or bundle for an export, and the files named beside it."""
    read = [Path(other) for other in others if other is not None]
    if is_bundle(run):
        return [*read, *run.iterdir()]
    return [*read, run / "run.json", run / "history.csv", *checkpoint_folder(run).glob("*")]


def _tuned(
    run: Path, module: ExportModule, info: ExportInfo, manifest: str | Path | None, root: str | Path | None, say: Say
) -> Ranges:
    """Trains the network on, in place, and gives the ranges that were found."""
    from lesionseg.export.qat import fine_tune

    cases = run_parts(run, manifest, root)
    config = load_config(dict(load_info(run)["config"]))
    say(f"training with the rounding of int8 for {info.qat_epochs} epochs")
    return fine_tune(module, config, cases, (info.height, info.width), info.qat_epochs, say).ranges


def varied(
    trained: TorchPredictor, *, model: SegmentationModel | None = None, size: tuple[int, int] | None = None
) -> TorchPredictor:
    """The same on the CPU with another model or another input size, for which nothing is calibrated."""
    import torch

    return TorchPredictor(
        model or trained.model,
        name=trained.name,
        checkpoint=trained.checkpoint,
        sha256=trained.sha256,
        size=size or (trained.height, trained.width),
        device=torch.device("cpu"),
        labels=trained.labels,
    )


def _photos(
    run: Path, trained: TorchPredictor, precision: str, manifest: str | Path | None, root: str | Path | None, say: Say
) -> tuple[Calibration | None, ScoredPhotos | None]:
    """Training photos to calibrate with and validation photos to judge by, as far as the precision needs them."""
    if precision not in BY_MASKS:
        return None, None
    train, val = run_parts(run, manifest, root)
    say("reading photos of the training")
    judging = read_photos(val, trained.labels, trained.height, trained.width)
    if precision != "int8":
        return None, judging
    step = max(1, len(train) // _CALIBRATION)
    chosen = train[::step][:_CALIBRATION]
    return Calibration(read_photos(chosen, trained.labels, trained.height, trained.width).pixels), judging


def compare_models(infer: Infer, trained: TorchPredictor, judging: ScoredPhotos | None) -> Checked:
    """How another form of a trained model compares with it.

    Args:
        infer: runs the other form.
        trained: the model.
        judging: photos for the mean Dice of both; None leaves it out.
    """
    photos = generated_photos(_COMPARED, trained.height, trained.width)
    # Alone and together: a graph whose number of photos got stuck shows here.
    apart = [np.abs(infer(batch) - trained.infer(batch)) for batch in (photos[:1], photos)]
    largest, mean = (max(float(measure(part)) for part in apart) for measure in (np.max, np.mean))
    if judging is None:
        return Checked(largest, mean)
    return Checked(largest, mean, len(judging.truths), mean_dice(trained.infer, judging), mean_dice(infer, judging))


def require_good(checked: Checked, precision: str, max_drop: float, path: Path) -> None:
    """Makes sure that an exported model is as good as the run's; NaN is never good enough.

    Raises:
        RunError: it is not.
    """
    if precision in BY_MASKS:
        good = checked.drop <= max_drop
        scores = f"Dice {checked.dice_after:.4f} instead of {checked.dice_before:.4f} on {checked.photos} photos"
        what = f"it lost {checked.drop:.2f} Dice points, over {max_drop}: {scores}"
        fix = "export another precision, or allow more with --max-drop"
        fix += "; for int8, a few epochs of --qat may win it back" if precision == "int8" else ""
    else:
        good = checked.mean_difference <= _MEAN and (precision != "float32" or checked.difference <= _LARGEST)
        apart = f"by {checked.mean_difference:.2g} and up to {checked.difference:.2g}"
        what = f"its probabilities differ from torch's, {apart}"
        fix = "export float32" if precision == "float16" else "this should not happen: tell the makers of this program"
    if not good:
        raise RunError(f"{path} is not written: {what}", fix=fix)
