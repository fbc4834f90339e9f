"""Send SIGINT, SIGTERM and SIGKILL to every command, to its process and to its group, at random moments.

After each signal: no process is left, nothing shows a traceback, and the same command, given again, ends as it would
have without the signal: the same exit code, the same files, nothing besides, the same bytes where these are repeatable.

python benchmarks/kills.py FOLDER [--times N] [--only train,evaluate]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PROGRAM = [sys.executable, "-m", "lesionseg"]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
TINY = (
    *("data.image_size=32", "data.workers=1", "loop.batch_size=4", "loop.threads=1"),
    *("model.name=light", "model.encoder_weights=random"),
)
SYN = "../../syn"
COMMANDS = {
    "data synth": "data synth --output out --train 60 --test 10 --size 128x96",
    "data pair": f"data pair --images {SYN}/train_images --masks {SYN}/train_masks --output out/m.csv",
    "data split": f"data split {SYN}/manifest.csv --hold-out 0.2 --output out/s.csv",
    "data audit": f"data audit {SYN}/manifest.csv --output out/audit",
    "data trimap": f"data trimap {SYN}/manifest.csv --output out/trimaps",
    "data preview": f"data preview --output out/p.png data.manifest={SYN}/manifest.csv data.image_size=64",
    "train": f"train --runs out --name a data.manifest={SYN}/manifest.csv loop.epochs=6 {' '.join(TINY)}",
    "evaluate": f"evaluate --predictions {SYN}/test_masks --masks {SYN}/test_masks --runs out --name x",
    "report": f"report --compare base --manifest {SYN}/manifest.csv --runs out",
    "predict": f"predict {SYN}/test_images --model ../../base --output out/masks",
    "export": "export out/base",
    "benchmark": "benchmark out/base --rounds 3 --output out/benchmark",
}
NEEDS_RUN = ("report", "export", "benchmark")


@dataclass
class Row:
    """What became of one command's signals."""

    sent: int = 0
    under_way: int = 0
    problems: list[str] = field(default_factory=list)


def words_of(command: str, out: Path) -> list[str]:
    words = COMMANDS[command].split()
    if command == "train" and list((out / "a/checkpoints").glob("*.json")):
        return ["train", "--runs", "out", "--name", "a", "--resume"]
    return words


def prepare(command: str, place: Path, base: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    (place / "tmp").mkdir(parents=True)
    if command in NEEDS_RUN:
        shutil.copytree(base, place / "out/base")


def start(command: str, place: Path, log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TMPDIR": str(place / "tmp"), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    with log.open("ab") as file:
        return subprocess.Popen(  # noqa: S603 - this package
            [*PROGRAM, *words_of(command, place / "out")],
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environment,
            start_new_session=True,
        )


def files_of(place: Path) -> dict[str, str]:
    return {
        path.relative_to(place).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("out", "tmp")
        for path in sorted((place / part).rglob("*"))
        if path.is_file() and "lock" not in path.name
    }


def left_of(place: Path) -> list[str]:
    """The processes that still work for a command: they have its folder for temporary files."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(place / "tmp") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline())[:60])
        except psutil.Error:
            continue
    return found


def once(command: str, place: Path, base: Path, kill: tuple[signal.Signals, bool, float]) -> tuple[bool, list[str]]:
    """Whether the command was still under way when the signal came, and what went wrong."""
    number, group, moment = kill
    prepare(command, place, base)
    log = place.with_suffix(".log")
    log.unlink(missing_ok=True)
    process = start(command, place, log)
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        (os.killpg if group else os.kill)(process.pid, number)
    under_way = process.wait(120) not in (0, 3)
    problems = []
    deadline = time.monotonic() + 5
    while (left := left_of(place)) and time.monotonic() < deadline:
        time.sleep(0.1)
    problems += [f"still running: {name}" for name in left]
    if b"Traceback" in log.read_bytes():
        problems.append("traceback: " + log.read_bytes().decode(errors="replace").strip().splitlines()[-1])
    return under_way, problems


def compare(command: str, place: Path, whole: dict[str, str], steady: set[str], code: int) -> list[str]:
    log = place.with_suffix(".again.log")
    log.unlink(missing_ok=True)
    ended = start(command, place, log).wait(300)
    files = files_of(place)
    problems = []
    if ended != code:
        problems.append(f"again: exit {ended}: {log.read_text(errors='replace').strip().splitlines()[-2:]}")
    problems += [f"left over: {name}" for name in sorted(files.keys() - whole.keys())]
    problems += [f"missing: {name}" for name in sorted(whole.keys() - files.keys())]
    # The list of what was written has a line for each time.
    repeatable = sorted(name for name in steady & files.keys() if not Path(name).name.startswith(".lesionseg-"))
    return problems + [f"other bytes: {name}" for name in repeatable if files[name] != whole[name]]


def table_row(command: str, folder: Path, times: int, rng: random.Random) -> Row:
    base, row = folder / "base", Row()
    wholes, duration, code = [], 0.0, 0
    for number in range(2):
        place = folder / "work" / f"{command.replace(' ', '-')}-whole{number}"
        prepare(command, place, base)
        started = time.monotonic()
        code = start(command, place, place.with_suffix(".log")).wait(300)
        duration = time.monotonic() - started
        wholes.append(files_of(place))
    steady = {name for name, digest in wholes[0].items() if wholes[1].get(name) == digest}
    for number in SIGNALS:
        for group in (False, True):
            for _ in range(times):
                moment = rng.uniform(0.1, 0.97) * duration
                place = folder / "work" / command.replace(" ", "-")
                under_way, problems = once(command, place, base, (number, group, moment))
                problems += compare(command, place, wholes[0], steady, code)
                row.sent += 1
                row.under_way += under_way
                where = f"{number.name}{' to the group' if group else ''} after {moment:.2f} of {duration:.2f} s"
                row.problems += [f"{where}: {problem}" for problem in problems]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=1, help="moments per signal and target")
    parser.add_argument("--only", default=",".join(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(folder)
    quiet = {"cwd": folder, "check": True, "stdout": subprocess.DEVNULL}
    synth = "data synth --output syn --train 16 --test 110 --size 128x96"
    if not (folder / "base").exists():
        subprocess.run([*PROGRAM, *synth.split()], **quiet)  # noqa: S603
        words = f"train --runs . --name base data.manifest=syn/manifest.csv loop.epochs=1 {' '.join(TINY)}"
        subprocess.run([*PROGRAM, *words.split()], **quiet)  # noqa: S603
    rng = random.Random(options.seed)  # noqa: S311 - moments, no secrets
    print("| command | signals | while it worked | problems |\n|---|---|---|---|")
    for command in options.only.split(","):
        row = table_row(command, folder, options.times, rng)
        print(f"| `{command}` | {row.sent} | {row.under_way} | {len(row.problems)} |", flush=True)
        for problem in row.problems:
            print(f"  {command}: {problem}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
