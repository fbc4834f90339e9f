"""The corpus of bad input through lesionseg, plain Pillow and MONAI's LoadImaged, as a Markdown page.

    python benchmarks/bad_input.py > docs/bad-input.md

Every row is written and read in a process of its own, which is stopped when it takes too long. Linux only.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import numpy as np
from corpus import Found, Row
from corpus_masks import MASKS
from corpus_photos import PHOTOS
from corpus_runs import RUNS
from corpus_sets import SETS
from monai.transforms import LoadImaged
from PIL import Image

from lesionseg.errors import LesionsegError

SECONDS = 120
LIMITS = (1.0, 300)
GOOD = {"D": "right", "R": "refused", "W": "warned", "S": "recorded"}

HEAD = """# Malformed input

How lesionseg, plain Pillow (`np.asarray(Image.open(path).convert("RGB"))`) and MONAI's `LoadImaged` handle {count}
kinds of malformed or unusual input, each in its own process.

    python benchmarks/bad_input.py > docs/bad-input.md

generates this page; the files are created by `tests/corpus*.py`, and `tests/test_bad_input.py` asserts each row.

- **D**: decode correctly, without a warning. **R**: refuse with an error that names the file, the reason and the fix.
  **W**: accept with a warning. **S**: skip and record the file, and process the others.
- *right*: the decoded pixels are the original ones. *wrong*: they are not, and there was no warning. *silent*:
  accepted without the warning. *accepted*: not refused. *unnamed*: refused by an error that does not name the file.
- Pillow and MONAI read single files only (Pillow no NIfTI); the rows on folders, tables and runs do not apply to
  them. Neither is meant to refuse files that are unusual but intact, such as strips, first frames or grey photos used
  as masks: those rows show what a pipeline built on them must check itself. Their masks are computed as most scripts
  do: `/ 255 > 0.5` of the first channel, `> 0.5` for NIfTI. MONAI's arrays are transposed to rows and columns first.
- Seconds and MB: time and additional memory of the call itself, for lesionseg; making the input is not counted.
"""


@dataclass(frozen=True)
class Measured:
    """What came of one row with one tool; memory in MB on top of what the process held before."""

    verdict: str
    seconds: float = 0.0
    memory: float = 0.0


# --- the tools --------------------------------------------------------------------------------------------------------


def with_lesionseg(row: Row, path: Path) -> Found:
    return row.run(path)


def with_pillow(row: Row, path: Path) -> Found:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return Found(pixels if row.kind == "photo" else pixels[..., 0] / 255 > 0.5)


def with_monai(row: Row, path: Path) -> Found:
    loaded = np.asarray(LoadImaged(keys="image", image_only=True)({"image": str(path)})["image"])
    pixels = loaded.swapaxes(0, 1)
    if row.kind == "mask":
        flat = pixels if pixels.ndim == 2 else pixels[..., 0]
        return Found(flat > 0.5 if ".nii" in path.name else flat / 255 > 0.5)
    if pixels.ndim == 2:
        pixels = np.dstack([pixels] * 3)
    whole = pixels.min() >= 0 and pixels.max() <= 255 and np.array_equal(pixels, np.rint(pixels))
    return Found(pixels.astype(np.uint8) if whole else pixels)


TOOLS: dict[str, Callable[[Row, Path], Found]] = {
    "lesionseg": with_lesionseg,
    "Pillow": with_pillow,
    "MONAI": with_monai,
}


# --- one row, one process ---------------------------------------------------------------------------------------------


def status(name: str) -> float:
    """A line of /proc/self/status in MB."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(rf"{name}:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]


def judge(row: Row, found: Found) -> str:
    """In a word, what became of a row that was not refused."""
    if row.outcome == "R":
        return "accepted"
    if not row.right(found.result):
        return "wrong"
    if row.outcome == "D":
        return "right" if not found.warnings and not found.skipped else "warned"
    told = found.warnings if row.outcome == "W" else found.skipped
    return GOOD[row.outcome] if any(re.search(row.says, line) for line in told) else "silent"


def refused(row: Row, path: Path, error: Exception) -> str:
    if isinstance(error, LesionsegError) and not re.search(row.says or ".", str(error)):
        return "refused for another reason"
    name = row.names or path.name
    return "refused" if name in str(error) else "unnamed"


def work(row: Row, tool: Callable[[Row, Path], Found]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = row.make(Path(folder))
        # Forgets the peak of making it.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before, start = status("VmRSS"), time.perf_counter()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            # A reader that forgets to close its file says nothing of what is in it.
            warnings.simplefilter("ignore", ResourceWarning)
            try:
                found = tool(row, path)
                verdict = judge(row, Found(found.result, (*found.warnings, *map(str, told)), found.skipped))
            except Exception as error:  # noqa: BLE001 - whatever the tool raises is its verdict
                verdict = refused(row, path, error)
        return {
            "verdict": verdict,
            "seconds": time.perf_counter() - start,
            "memory": max(0.0, status("VmHWM") - before),
        }


def measure(row: Row, tool: Callable[[Row, Path], Found]) -> Measured:
    """Forks, so that neither a crash nor a hang nor a full memory reaches the next row."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        os.write(writer, json.dumps(work(row, tool)).encode())
        os._exit(0)
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], SECONDS)
    if not ready:
        os.kill(child, signal.SIGKILL)
    data = b"".join(iter(lambda: os.read(reader, 65536), b""))
    os.close(reader)
    _, code = os.waitpid(child, 0)
    if data:
        return Measured(**json.loads(data))
    return Measured("hang" if not ready else f"crash ({os.waitstatus_to_exitcode(code)})")


# --- the page ---------------------------------------------------------------------------------------------------------


def can_read(tool: str, row: Row) -> bool:
    if tool == "lesionseg":
        return True
    return row.kind in ("photo", "mask") and (tool != "Pillow" or ".nii" not in row.names)


def main() -> None:
    rows = (*PHOTOS, *MASKS, *SETS, *RUNS)
    verdicts: dict[str, list[tuple[Row, Measured]]] = {name: [] for name in TOOLS}
    lines = []
    for row in rows:
        cells = []
        for name, tool in TOOLS.items():
            if not can_read(name, row):
                cells.append("")
                continue
            result = measure(row, tool)
            verdicts[name].append((row, result))
            good = result.verdict == GOOD[row.outcome]
            cells.append(result.verdict if good else f"**{result.verdict}**")
            if name == "lesionseg":
                cells += [f"{result.seconds:.2f}", f"{result.memory:.0f}"]
        lines.append(f"| {row.title} | {row.kind} | {row.outcome} | {' | '.join(cells)} |")
        print(lines[-1], file=sys.stderr)
    print(HEAD.format(count=len(rows)))
    print(f"With {', '.join(f'{name} {version(name)}' for name in ('lesionseg', 'pillow', 'monai'))}.\n")
    print(summary(verdicts))
    print("| input | read as | should | lesionseg | s | MB | Pillow | MONAI |\n|---|---|---|---|---|---|---|---|")
    print("\n".join(lines))


def summary(verdicts: dict[str, list[tuple[Row, Measured]]]) -> str:
    lines = ["| tool | rows | as they should | otherwise | slowest | most memory |", "|---|---|---|---|---|---|"]
    for name, results in verdicts.items():
        good = sum(result.verdict == GOOD[row.outcome] for row, result in results)
        other = Counter(result.verdict for row, result in results if result.verdict != GOOD[row.outcome])
        seconds, memory = (max(getattr(result, what) for _, result in results) for what in ("seconds", "memory"))
        others = ", ".join(f"{count} {what}" for what, count in other.most_common())
        lines.append(f"| {name} | {len(results)} | {good} | {others} | {seconds:.2f} s | {memory:.0f} MB |")
    for name, results in verdicts.items():
        over = [
            f"{row.title} ({result.seconds:.1f} s, {result.memory:.0f} MB)"
            for row, result in results
            if result.seconds > LIMITS[0] or result.memory > LIMITS[1]
        ]
        lines.append(f"\nOver {LIMITS[0]:g} s or {LIMITS[1]} MB with {name}: {', '.join(over) or 'none'}.")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
