"""Predicts a folder while being killed again and again; started as a program by ``test_pipeline.py``.

python killing_folder.py FOLDER PHOTOS KILLS
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from red_channel import RedChannel, save

from lesionseg.inference.folder import PredictOptions, predict_folder

OPTIONS = PredictOptions(save_probabilities=True)


def run(source: Path, output: Path, seconds: float = 0.0) -> tuple[int, int]:
    result = predict_folder(source, RedChannel(seconds=seconds), output, OPTIONS, workers=3)
    assert result.failed == 0
    return result.done, result.reused


def recorded(output: Path) -> set[str]:
    """The photos of the journal's whole lines, none of them twice."""
    journal = output / "predictions.jsonl"
    if not journal.exists():
        return set()
    lines = journal.read_bytes().split(b"\n")[1:-1]
    counts = Counter(json.loads(line)["file"] for line in lines)
    assert max(counts.values(), default=1) == 1, counts
    return set(counts)


def main(folder: Path, photos: int, kills: int) -> None:
    rng = random.Random(0)  # noqa: S311 - when to kill, not a secret
    source = folder / "photos"
    for number in range(photos):
        save(source / f"{number % 3}" / f"{number:04}.jpg", number)
    run(source, folder / "whole")
    known: set[str] = set()
    done = 0
    while done < kills:
        child = os.fork()
        if child == 0:
            run(source, folder / "broken", 0.002)
            os._exit(0)
        time.sleep(rng.uniform(0.01, 0.12))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"it ended by itself with {status}: more photos are needed"
        done += 1
        now = recorded(folder / "broken")
        assert known <= now, "photos were lost"
        known = now
    predicted, reused = run(source, folder / "broken")
    assert (predicted, reused) == (photos - len(known), len(known))
    sys.stdout.write(json.dumps({"kills": done, "recorded_when_last_killed": len(known)}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
