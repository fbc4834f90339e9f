import errno
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from red_channel import save
from typer.testing import CliRunner

from lesionseg import cli, cli_parts
from lesionseg.data.images import read_mask
from lesionseg.errors import ConfigError

COMMANDS = (
    *([], ["data"], ["train"], ["evaluate"], ["report"], ["predict"], ["export"], ["benchmark"], ["models"], ["demo"]),
    *(["data", name] for name in ("pair", "audit", "split", "download", "synth")),
)


def lesionseg(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The installed command, as a user runs it."""
    code = "from lesionseg.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:lesionseg", "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_help_says_research_use_and_shows_examples(words: list[str]) -> None:
    result = CliRunner().invoke(cli.app, [*words, "--help"])
    text = " ".join(result.output.split())
    assert result.exit_code == 0
    assert "Research use" in text
    if words not in ([], ["data"]):
        assert f"lesionseg {' '.join(words)}" in text.partition("Examples:")[2]


@pytest.mark.parametrize("formats", [["--format", "md,xyz"], ["--format", "md", "--format", "xyz"]])
def test_formats_of_a_report_come_with_commas_or_repeated(formats: list[str]) -> None:
    result = CliRunner().invoke(cli.app, ["report", "--compare", "nothing", *formats])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.message == "there is no report format xyz"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from lesionseg import cli; "
        "heavy = ('torch', 'monai', 'timm', 'numpy', 'pandas', 'pydantic', 'matplotlib'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_version() -> None:
    from lesionseg import __version__

    assert CliRunner().invoke(cli.app, ["--version"]).output.strip() == f"lesionseg {__version__}"


def test_train_with_nothing_says_what_it_needs_and_offers_the_demo() -> None:
    result = lesionseg("train")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    for part in ("needs a config", "isic2016-frozen", "lesionseg data pair", "lesionseg demo"):
        assert part in result.stderr


def test_wrong_keys_are_all_listed_with_the_right_ones() -> None:
    result = lesionseg("train", "--config", "isic2016-frozen", "optim.decoderlr=1", "loop.epochs=none at all", "what")
    assert result.returncode == 2
    for part in ("optim.decoderlr: no such key; did you mean optim.decoder_lr?", "loop.epochs", "'what'", "data.root"):
        assert part in result.stderr


def test_a_bug_shows_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from lesionseg import api

    def broken(*args: object, **options: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(api, "evaluate", broken)
    monkeypatch.setattr(sys, "argv", ["lesionseg", "evaluate", "--model", str(tmp_path)])
    with pytest.raises(ZeroDivisionError, match="a bug"):
        cli.main()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "there is not enough memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "there is not enough memory"),
        (ImportError("x.so: failed to map segment from shared object"), "there is not enough memory"),
        (OSError(errno.EMFILE, "Too many open files"), "no more files can be opened"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "no more threads or processes"),
        (RuntimeError("can't start new thread"), "no more threads or processes"),
    ],
)
def test_what_the_machine_does_not_give(
    error: Exception,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from lesionseg import api

    def lacking(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(api, "evaluate", lacking)
    monkeypatch.setattr(sys, "argv", ["lesionseg", "evaluate", "--model", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    text = capsys.readouterr().err
    assert told in text
    assert "Fix: " in text


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["evaluate"], "either a run or the masks of another tool"),
        (["evaluate", "--model", "x", "--predictions", "y"], "either a run or the masks of another tool"),
        (["evaluate", "--predictions", "y"], "scored against true masks"),
        (["evaluate", "--predictions", "y", "--masks", "m", "--at-model-size"], "--at-model-size: only with --model"),
        (["evaluate", "--model", "x", "--masks", "m", "--name", "n"], "--masks, --name: only with --predictions"),
        (["evaluate", "--model", "x", "--probabilities", "--images", "i"], "--probabilities, --images: only with"),
        (["report", "--compare", "x", "--format", "docx"], "no report format docx"),
    ],
)
def test_what_cannot_be_evaluated(
    words: list[str], part: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lesionseg", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert part in " ".join(capsys.readouterr().err.split())


@pytest.mark.long
def test_other_tools_and_papers(
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    masks = str(tiny.folders.test_masks)
    commands = [
        ["evaluate", "--predictions", masks, "--masks", masks, "--name", "first"],
        ["evaluate", "--predictions", masks, "--manifest", str(tiny.manifest), "--name", "second"],
        ["report", "--compare", "first,second", "--format", "md", "--format", "latex", "--output", "paper"],
    ]
    monkeypatch.chdir(tmp_path)
    for words in commands:
        monkeypatch.setattr(sys, "argv", ["lesionseg", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "first reaches a mean Dice of 1.0000 on 4 test photos" in told
    assert "report -> paper/report.md report -> paper/report.tex" in told
    assert {"report.md", "report.tex", "paired.csv"} <= {path.name for path in (tmp_path / "paper").iterdir()}
    assert not (tmp_path / "paper/report.html").exists()


@pytest.mark.long
def test_the_whole_way(tiny, tmp_path: Path) -> None:
    photos = tiny.folders
    paired = lesionseg(
        *("data", "pair", "--images", photos.train_images, "--masks", photos.train_masks),
        *("--test-images", photos.test_images, "--test-masks", photos.test_masks, "--output", "m/mine.csv"),
        cwd=tmp_path,
    )
    assert paired.returncode == 0, paired.stderr
    assert "14 pairs (10 train, 4 test)" in paired.stdout

    small = ["data.image_size=64", "model.encoder_weights=random", "loop.epochs=1", "loop.batch_size=4"]
    for name, rate in (("frozen", "0"), ("finetuned", "0.0001")):
        trained = lesionseg(
            "train", "--name", name, "data.manifest=m/mine.csv", f"optim.encoder_lr={rate}", *small, cwd=tmp_path
        )
        assert trained.returncode == 0, trained.stderr
        assert re.search(r"epoch 1/1\s+train loss \d", trained.stdout)
    again = lesionseg("train", "--name", "frozen", "--resume", "loop.epochs=2", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "epoch 2/2" in again.stdout

    report = lesionseg("report", "--compare", "frozen,finetuned", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    html = (tmp_path / "runs/report-frozen-finetuned/report.html").read_text(encoding="utf-8")
    assert "Not a medical device" in html
    assert (tmp_path / "runs/frozen/evaluation/test/per_image.csv").is_file()

    (photos.test_images / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    try:
        predicted = lesionseg("predict", photos.test_images, "--model", "runs/frozen", "--output", "out", cwd=tmp_path)
    finally:
        (photos.test_images / "broken.jpg").unlink()
    assert predicted.returncode == 3, predicted.stderr
    assert "4 done, 0 reused, 1 failed" in predicted.stdout
    masks = sorted((tmp_path / "out").glob("*_segmentation.png"))
    assert [read_mask(path).shape for path in masks] == [(72, 96)] * 4
    scored = lesionseg("evaluate", "--model", "runs/frozen", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    assert "Dice" in scored.stdout


def test_warnings_of_pairing_go_to_stderr(tiny, tmp_path: Path) -> None:
    (tmp_path / "dx.csv").write_text("SYNTH_0000000;malignant\n[red]no;benign\n")
    words = ("data", "pair", "--images", tiny.folders.train_images, "--masks", tiny.folders.train_masks)
    paired = lesionseg(*words, "--labels", tmp_path / "dx.csv", "--output", "m.csv", cwd=tmp_path)
    assert paired.returncode == 0, paired.stderr
    assert "Warning 1 labels have no photo: [red]no\nWarning 9 photos have no label: " in paired.stderr
    assert "Warning" not in paired.stdout
    assert (tmp_path / "m.warnings.txt").read_text().startswith("1 labels have no photo: [red]no\n")


def test_only_the_first_warnings_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with cli_parts.telling(" in m.warnings.txt") as warn:
        for number in range(25):
            warn(f"line {number}\nof two")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == r"Warning line 0\nof two"
    assert (len(lines), lines[-1]) == (21, "5 more warnings in m.warnings.txt")


@pytest.mark.long
def test_ctrl_c_saves_and_exits_130(tiny, tmp_path: Path) -> None:
    words = ["train", "--name", "long", f"data.manifest={tiny.manifest}", "data.image_size=64", "loop.epochs=500"]
    words += ["model.encoder_weights=random", "loop.batch_size=4", "loop.device=cpu"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from lesionseg.cli import main; main()", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    checkpoints = tmp_path / "runs/long/checkpoints"
    for _ in range(600):
        if checkpoints.is_dir() and list(checkpoints.glob("*.json")):
            break
        time.sleep(0.1)
    process.send_signal(2)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "go on with: lesionseg train --name long --runs runs --resume" in " ".join(out.split())
    assert '"status": "interrupted"' in (tmp_path / "runs/long/run.json").read_text()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["predict", ""], "SOURCE"),
        (["predict", "photos", "--output", "  "], "--output"),
        (["predict", "photos", "--model="], "--model"),
        (["data", "pair", "--images", "", "--masks", "m"], "--images"),
        (["evaluate", "--model", "m", "--runs="], "--runs"),
    ],
)
def test_empty_arguments_are_refused(words: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match="these arguments are empty") as caught:
        CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert caught.value.problems == (problem,)


def test_what_predict_leaves_out_is_named(tmp_path: Path) -> None:
    save(tmp_path / "photos" / "a.jpg")
    for name in ("c.DNG", "notes.txt"):
        (tmp_path / "photos" / name).write_bytes(b"x")
    words = ["predict", str(tmp_path / "photos"), "--model", "lesionseg-lite", "--output", str(tmp_path / "out")]
    told = CliRunner().invoke(cli.app, words)
    assert told.exit_code == 3
    assert "c.DNG: a raw file" in told.output
    assert "files that are not photos (1)" in told.output
    table = (tmp_path / "out" / "predictions.csv").read_text()
    assert table.count("skipped") == 2
