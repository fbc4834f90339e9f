"""Measures the models that ship anew and writes their cards, and ``MODEL_CARD.md`` of the repository: run it after
``lesionseg export RUN --format bundle --output lesionseg/shipped_models/NAME``.

    python benchmarks/cards.py --root DATA/isic2016          # all that ship
    python benchmarks/cards.py lesionseg-base --root DATA/isic2016
    python benchmarks/cards.py --text                        # the texts alone, from what was measured

Options of ``predict``, changes of the photos (``robustness_changes.py``) and failures on generated photos go into
``measured`` of ``model.json``, with the digest of the file that they are of: those of another file are not shown.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
from failures import PHOTOS, draw, picture_of, search
from refinements import WAYS, measure
from robustness import score_changes, spaced, table

from lesionseg import load
from lesionseg.data.manifest import read_manifest
from lesionseg.evaluation.statistics import paired_difference
from lesionseg.export.measured import MEASURED
from lesionseg.export.model_card import model_card
from lesionseg.export.overview import overview
from lesionseg.inference.predictor import Predictor
from lesionseg.io.writing import write_atomic
from lesionseg.records import Case
from lesionseg.shipped_models import FACTS, INT8, describe, find_model, shipped_models

ROOT = Path(__file__).parents[1]
CARD = "MODEL_CARD.md"


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def options(model: Predictor, cases: tuple[Case, ...]) -> list[dict[str, Any]]:
    found, _ = measure(model, cases)
    plain = np.array(found[next(iter(WAYS))].scores)[:, 0]
    rows = []
    for name, way in found.items():
        scores, apart = np.array(way.scores), paired_difference(np.array(way.scores)[:, 0], plain)
        numbers = {"dice": scores[:, 0].mean(), "jaccard": scores[:, 1].mean(), "difference": apart.mean_difference}
        numbers |= {"low": apart.low, "high": apart.high}
        told = {key: round(float(value), 6) for key, value in numbers.items()}
        rows.append({"option": name, **told, "ms": round(way.milliseconds, 1)})
    return rows


def measured(name: str, cases: tuple[Case, ...], given: argparse.Namespace) -> dict[str, Any]:
    model = load(name, threads=1)
    rows = table(model, score_changes([model], cases)[0])
    shown = ("change", "dice", "jaccard", "difference", "low", "high")
    tried = options(model, cases)
    failures = search(model, given.generated)
    picture = picture_of(model.name)
    write_atomic(ROOT / picture, draw(model, failures))
    return {
        INT8: model.sha256,
        "photos": len(cases),
        "split": given.split,
        "speed": {"ms": tried[0]["ms"], "threads": 1, "cpu": processor()},
        "options": tried,
        "changes": [{key: row[key] for key in shown} for row in rows],
        "failures": {"picture": picture, **failures},
    }


def main() -> None:
    """See the module."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("models", nargs="*", default=shipped_models())
    words.add_argument("--manifest", default="isic2016")
    words.add_argument("--root")
    words.add_argument("--split", default="test")
    words.add_argument("--photos", type=int, help="only so many of the split's, evenly spaced")
    words.add_argument("--generated", type=int, default=PHOTOS, help="photos to search for failures")
    words.add_argument("--text", action="store_true", help="measure nothing")
    given = words.parse_args()
    cases = () if given.text else spaced(read_manifest(given.manifest, given.root).split(given.split), given.photos)
    for name in given.models:
        (facts,) = describe(name)
        folder = find_model(name)
        if not given.text:
            facts[MEASURED] = measured(name, cases, given)
            write_atomic(folder / FACTS, (json.dumps(facts, indent=1) + "\n").encode())
        write_atomic(folder / CARD, model_card(facts).encode())
        print(folder / CARD)
    write_atomic(ROOT / CARD, overview(describe()).encode())
    print(ROOT / CARD)


if __name__ == "__main__":
    main()
