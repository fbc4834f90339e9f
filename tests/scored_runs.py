"""Small run folders with scores, maps and photos, written without a training."""

import json

import numpy as np
import pandas as pd

from lesionseg.data.images import encode_jpeg, encode_mask_png, encode_probability_png
from lesionseg.evaluation.runs import HISTORY, load_run
from lesionseg.evaluation.scoring import score_case, write_evaluation
from lesionseg.evaluation.traits import Traits
from lesionseg.records import Case, Prediction

SIZE = (18, 24)
COUNT = 7
IDS = ("<b>bold", *(f"ISIC_{i:07d}" for i in range(1, COUNT)))


def truth_of(index):
    mask = np.zeros(SIZE, bool)
    mask[4:14, 5 : 12 + index] = True
    return mask


def write_cases(folder):
    found = {}
    for index, case_id in enumerate(IDS):
        image, mask = folder / f"{index}.jpg", folder / f"{index}.png"
        image.write_bytes(encode_jpeg(np.random.default_rng(index).integers(0, 255, (*SIZE, 3), np.uint8)))
        mask.write_bytes(encode_mask_png(truth_of(index)))
        found[case_id] = Case(case_id, image, mask, split="test")
    return found


def write_scores(place, name, ids, *, noise, seed=0, group="", labels=None, probabilities=True):
    (place / "probabilities").mkdir(parents=True)
    scored = []
    for index, case_id in ids.items():
        truth, rng = truth_of(index), np.random.default_rng((index, seed))
        p = np.clip(truth * 0.8 + 0.1 + noise * rng.standard_normal(SIZE), 0, 1).astype(np.float32)
        (place / "probabilities" / f"{case_id}.png").write_bytes(encode_probability_png(p))
        case = Case(case_id, place, place, group=group or case_id, labels=labels or {})
        traits = Traits(60.0 - 5 * index, hair=index % 2 == 0, ruler=False)
        scored.append(score_case(case, Prediction(case_id, p), truth, threshold=0.5, traits=traits, aspect=4 / 3))
    facts = {"run": name, "split": "test", "threshold": 0.5, "checkpoint": "best"}
    facts |= {"model_sha256": "m" * 64, "manifest_sha256": "f" * 64, "size": "own"}
    write_evaluation(place, scored, labels or {}, facts, probabilities=probabilities)


def write_run(folder, *, name=None, noise=0.3, epochs=12, manifest="toy", ids=None, **scores):
    """A run folder with scores on the split ``test``, read back."""
    name = name or folder.name
    write_scores(
        folder / "evaluation" / "test", name, dict(enumerate(IDS)) if ids is None else ids, noise=noise, **scores
    )
    curves = {column: np.random.default_rng((7, i)).random(epochs) for i, column in enumerate(HISTORY)}
    pd.DataFrame(curves).assign(epoch=np.arange(1, epochs + 1)).to_csv(folder / "history.csv", index=False)
    parts = {"encoder": 2223872, "decoder": 1594314, "total": 3818186, "trainable": 1591314, "non_trainable": 2226872}
    info = {"name": name, "created": "2025-01-01T00:00:00+00:00", "status": "finished", "parameters": parts}
    info |= {"versions": {"torch": "2.9"}, "hardware": {"device": "cpu"}}
    info |= {"encoder_weights": {"source": "imagenet", "sha256": "e" * 64}}
    info["manifest"] = {"name": manifest, "sha256": "f" * 64, "train": 3, "val": 1}
    rates = {"encoder_lr": 0 if noise > 0.2 else 1e-4, "decoder_lr": 0.01}
    info["config"] = {
        "data": {"manifest": "toy.csv", "root": None},
        "optim": rates | {"loss": "bce"},
        "loop": {"epochs": 12},
    }
    (folder / "run.json").write_text(json.dumps(info))
    return load_run(folder, "test")
