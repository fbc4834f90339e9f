"""A run whose weights lie between those of two runs, one of which was trained on from the other.

    python benchmarks/average.py runs/BEFORE runs/AFTER --share 0.5 --output runs/BOTH

BEFORE may also be a model that ships. What was learned on changed photos is thus kept in part, and so is what was known
before (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903; it holds only within one training path). Which share is best is
for validation photos to say:
``python benchmarks/robustness.py runs/BEFORE runs/BOTH runs/AFTER --manifest MANIFEST --split val``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from lesionseg.io.writing import write_atomic
from lesionseg.models import ModelSpec
from lesionseg.training.checkpoint import checkpoint_folder, load_model, save_checkpoint
from lesionseg.training.start import trained_model


def average(before: str, after: Path, share: float, output: Path, which: str = "last") -> None:
    """Writes the run.

    Args:
        before: a run folder (its best state) or the name of a model that ships.
        after: a run folder, of the same architecture.
        share: of ``after``, in [0, 1].
        output: run folder; its history is that of ``after``.
        which: checkpoint of ``after``, ``best`` or ``last``.
    """
    (first, _, one), (_, last, other) = trained_model(before), load_model(after, which)
    if first.spec != ModelSpec.from_json(last.model_spec):
        raise SystemExit(f"{before} and {after} are not of one architecture")
    known = first.state_dict()
    state = {
        name: known[name].lerp(value, share) if value.is_floating_point() else value
        for name, value in last.model_state.items()
    }
    described = json.loads((after / "run.json").read_text(encoding="utf-8"))
    made = {"of": [Path(before).name, after.name], "weights_sha256": [one, other], "share": share}
    output.mkdir(parents=True, exist_ok=True)
    described |= {"name": output.name, "average": made}
    write_atomic(output / "run.json", json.dumps(described, indent=1).encode())
    write_atomic(output / "history.csv", (after / "history.csv").read_bytes())
    save_checkpoint(replace(last, model_state=state), checkpoint_folder(output), is_best=True, keep=1)


def main() -> None:
    """See the module."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("before")
    words.add_argument("after", type=Path)
    words.add_argument("--share", type=float, required=True)
    words.add_argument("--which", choices=("best", "last"), default="last")
    words.add_argument("--output", type=Path, required=True)
    given = words.parse_args()
    average(given.before, given.after, given.share, given.output, given.which)
    print(given.output)


if __name__ == "__main__":
    main()
