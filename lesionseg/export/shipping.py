"""A run to a bundle: a folder that holds all that somebody else needs to use, to check and to cite a trained model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from lesionseg import RESEARCH_USE, __version__
from lesionseg.data.leaks import refuse_shared
from lesionseg.data.manifest import read_manifest
from lesionseg.errors import ConfigError, OutputError
from lesionseg.evaluation.runs import load_info
from lesionseg.export.judging import calibrate, score
from lesionseg.export.model_card import model_card
from lesionseg.export.onnx import with_metadata
from lesionseg.export.photos import ScoredPhotos, read_photos, run_parts
from lesionseg.export.publish import Exported, Say, compare_models, export_run, require_good, run_inputs, varied
from lesionseg.export.requests import read_about
from lesionseg.inference.onnx_predictor import OnnxPredictor, load_onnx
from lesionseg.inference.predictor import TorchPredictor, load_torch
from lesionseg.inference.quality import FEWEST
from lesionseg.io.leftovers import scratch
from lesionseg.io.ownership import RECORD, check_outputs, write_output
from lesionseg.models import count_parameters
from lesionseg.models.packing import pack, restore
from lesionseg.records import THRESHOLD, Case
from lesionseg.shipped_models import FACTS, INT8, VERSION, WEIGHTS, is_bundle, open_bundle

__all__ = ["CARD", "export_bundle"]

CARD = "MODEL_CARD.md"
"""The text beside a bundle's files."""


@dataclass(frozen=True, slots=True, eq=False)
class _Photos:
    """Of a run's manifest."""

    train: Sequence[Case]
    val: Sequence[Case]
    test: Sequence[Case]
    manifest: str
    sha256: str


def export_bundle(
    run: Path,
    output: Path,
    *,
    about: Path | None = None,
    max_drop: float = 0.5,
    qat: int = 0,
    manifest: str | Path | None = None,
    root: str | Path | None = None,
    say: Say = lambda _: None,
    overwrite: bool = False,
) -> Exported:
    """Exports a run's best state as a bundle, with its card.

    The weights go in as float16, and for ``predict`` as an int8 ONNX file that has passed the gate of ``export_run``.
    What is expected of a mask is calibrated on the run's validation photos at their own size, with the int8 model. The
    int8 model and the run are scored on the test photos of the run's manifest, where it has some.

    Args:
        run: a run folder.
        output: the bundle's folder; its name becomes the model's. An earlier bundle there is replaced.
        about: a YAML file for ``read_about``.
        max_drop, qat, manifest, root, say, overwrite: as in ``export_run``.

    Raises:
        ConfigError: ``about`` cannot be used, or the run is a bundle itself.
        DataError: the photos are not there, or a test photo took part in the training.
        RunError: the run is damaged, or an exported model is not as good as the run's.
        OutputError: the folder holds something else, or cannot be written to.
    """
    told = read_about(about)
    _check_folders(run, output, overwrite=overwrite)
    written = [output / name for name in (FACTS, WEIGHTS, INT8, CARD)]
    # A bundle of an earlier version has no record of its files; model.json holds their hashes.
    is_older = is_bundle(output) and not (output / RECORD).exists()
    check_outputs(written, inputs=run_inputs(run, manifest, about), overwrite=overwrite or is_older)
    photos = _photos_of(run, manifest, root)
    refuse_shared(
        photos.test, [*photos.train, *photos.val], f"{run}: its manifest tests with photos that it trains with"
    )
    trained = load_torch(run, device="cpu")
    weights = pack(trained.model)
    _check_weights(weights, trained, output)
    with scratch("lesionseg-") as place:
        more: dict[str, Any] = {"max_drop": max_drop, "qat": qat, "manifest": manifest, "root": root}
        made = export_run(run, place / INT8, precision="int8", say=say, **more)
        say("calibrating what to expect of a mask")
        val = read_photos(photos.val, trained.labels, trained.height, trained.width)
        int8, data = _calibrated(made.path, output.name, val, say)
        say(f"scoring {len(photos.test)} test photos")
        scores = score({"int8": int8, "float32": trained}, int8.info, photos.test, photos.sha256, place / "scores")
    files = {WEIGHTS: weights, INT8: data}
    facts = {
        **_facts(trained, int8, photos),
        "scores": scores,
        "checked": str(made.checked),
        "about": told,
        "files": {name: _entry(content) for name, content in files.items()},
        "notice": RESEARCH_USE,
    }
    # model.json last: without it, the folder is no bundle.
    files |= {CARD: model_card(facts).encode(), FACTS: (json.dumps(facts, indent=1) + "\n").encode()}
    for name, content in files.items():
        write_output(output / name, content)
    open_bundle(output)
    return Exported(output, output / CARD, sum(map(len, files.values())), made.checked)


def _entry(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def _check_folders(run: Path, output: Path, *, overwrite: bool) -> None:
    if is_bundle(run):
        raise ConfigError(f"{run} is a bundle", fix="name the run folder that it was made from")
    ours = {FACTS, WEIGHTS, INT8, CARD, RECORD}
    if not overwrite and output.exists() and not (output.is_dir() and {path.name for path in output.iterdir()} <= ours):
        raise OutputError(f"{output} holds something else", fix="name a new folder; its name becomes the model's")


def _photos_of(run: Path, manifest: str | Path | None, root: str | Path | None) -> _Photos:
    train, val = run_parts(run, manifest, root)
    config: Any = load_info(run)["config"]["data"]
    data = read_manifest(manifest or config["manifest"], root or config["root"])
    test = [case for case in data.cases if case.split == "test" and case.mask is not None]
    return _Photos(train, val, test, data.name, data.sha256)


def _check_weights(weights: bytes, trained: TorchPredictor, output: Path) -> None:
    """Makes sure that the rounded weights say what the run's say."""
    copy = varied(trained, model=restore(weights, trained.model.spec))
    require_good(compare_models(copy.infer, trained, None), "float16", 0, output / WEIGHTS)


def _calibrated(file: Path, name: str, val: ScoredPhotos, say: Say) -> tuple[OnnxPredictor, bytes]:
    """The int8 model with its calibration and its new name in it, and the bytes of its file."""
    rough = load_onnx(file, threads=1)
    quality = calibrate(rough, val)
    if quality is None:
        say(f"not calibrated: there are {len(val.truths)} validation photos, and it takes {FEWEST}")
    data = with_metadata(onnx.load(file), replace(rough.info, name=name, quality=quality).to_metadata())
    return OnnxPredictor(data, file, threads=1, name=name), data


def _facts(trained: TorchPredictor, int8: OnnxPredictor, photos: _Photos) -> dict[str, Any]:
    info, spec = int8.info, trained.model.spec
    run: Mapping[str, Any] = info.run
    return {
        "lesionseg_model": VERSION,
        "name": info.name,
        "lesionseg_version": __version__,
        "spec": spec.to_json(),
        "image_size": [trained.height, trained.width],
        "labels": asdict(trained.labels),
        "threshold": THRESHOLD,
        "checkpoint": trained.checkpoint,
        "weights_sha256": trained.sha256,
        "cost": {"parameters": count_parameters(trained.model)["total"], "macs": info.macs},
        "encoder": {"source": spec.encoder.source, "sha256": spec.encoder.sha256},
        "training": {
            "run": run["name"],
            "created": run["created"],
            "manifest": photos.manifest,
            "manifest_sha256": photos.sha256,
            "photos": len(photos.train),
            "validation": len(photos.val),
            "qat_epochs": info.qat_epochs,
            "config": run["config"],
        },
        "quality": None if info.quality is None else info.quality.to_json(),
    }
