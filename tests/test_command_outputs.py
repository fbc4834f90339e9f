"""No command replaces an input, or a file that lesionseg did not write, unless --overwrite is given."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from lesionseg import api, demo
from lesionseg.app.site import write_site
from lesionseg.cli import app
from lesionseg.errors import LesionsegError, OutputError


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(*words: str | Path) -> OutputError:
    error = run(*words).exception
    assert isinstance(error, OutputError), error
    return error


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("made")
    api.synth(home / "syn", train=3, test=1, size=(48, 32))
    return home


@pytest.fixture
def syn(made: Path, tmp_path: Path) -> Path:
    """A folder with a data set, labels, groups, an official split and a config; made anew for every test."""
    for path in (made / "syn").rglob("*"):
        target = tmp_path / path.relative_to(made)
        target.mkdir(parents=True) if path.is_dir() else (
            target.parent.mkdir(exist_ok=True, parents=True),
            target.write_bytes(path.read_bytes()),
        )
    ids = sorted(path.stem for path in (tmp_path / "syn/train_images").glob("*.jpg"))
    tests = [path.stem for path in (tmp_path / "syn/test_images").glob("*.jpg")]
    (tmp_path / "dx.csv").write_text("case_id,diagnosis\n" + "".join(f"{i},naevus\n" for i in ids))
    (tmp_path / "groups.csv").write_text("case_id,group\n" + "".join(f"{i},g{n}\n" for n, i in enumerate(ids)))
    rows = [f"{i},train\n" for i in ids] + [f"{i},test\n" for i in tests]
    (tmp_path / "off.csv").write_text("case_id,split\n" + "".join(rows))
    (tmp_path / "c.yaml").write_text(f"data: {{manifest: {tmp_path / 'syn/manifest.csv'}, image_size: 32}}\n")
    return tmp_path


PHOTO, MASK = "syn/train_images/SYNTH_0000000.jpg", "syn/train_masks/SYNTH_0000000_Segmentation.png"
PAIR = ("data", "pair", "--images", "syn/train_images", "--masks", "syn/train_masks")
SPLIT = ("data", "split", "syn/manifest.csv", "--hold-out", "0.4")
ON_INPUTS = [
    *((*PAIR, "--output", name) for name in (PHOTO, MASK)),
    (*PAIR, "--labels", "dx.csv", "--output", "dx.csv"),
    (*PAIR, "--groups", "groups.csv", "--output", "groups.csv"),
    ("data", "split", "syn/manifest.csv", "--official", "off.csv", "--output", "off.csv"),
    *((*SPLIT, "--output", name) for name in (PHOTO, MASK, "syn/manifest.csv", "syn/manifest.txt", "hard.csv")),
    *(("data", "preview", "--config", "c.yaml", "--output", name) for name in ("c.yaml", PHOTO, "syn/manifest.root")),
    ("data", "trimap", "syn/manifest.csv", "--output", "syn"),
    ("data", "audit", "audit.html", "--root", "syn", "--output", "."),
]


@pytest.mark.parametrize("words", ON_INPUTS)
def test_an_input_is_never_replaced(syn: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(syn)
    (syn / "audit.html").write_bytes((syn / "syn/manifest.csv").read_bytes())
    (syn / "hard.csv").hardlink_to(syn / "syn/manifest.csv")
    before = contents(syn)
    assert "would replace an input" in str(refused(*words, "--overwrite"))
    assert contents(syn) == before


ON_FILES = [
    ((*PAIR, "--output", "m.csv"), ("m.csv", "m.root", "m.warnings.txt")),
    ((*SPLIT, "--output", "m.csv"), ("m.csv", "m.root")),
    (("data", "split", "syn/manifest.csv", "--folds", "2", "--output", "m.csv"), ("m-fold1.csv", "m-fold2.root")),
    pytest.param(
        ("data", "preview", "--config", "c.yaml", "--cases", "1", "--output", "p.png"),
        ("p.png",),
        marks=pytest.mark.long,
    ),
    (("data", "trimap", "syn/manifest.csv", "--output", "t"), ("t/SYNTH_0000002_trimap.png", "t/manifest.csv")),
    (("data", "audit", "syn/manifest.csv", "--output", "a"), ("a/audit.html", "a/findings.csv", "a/fingerprint.json")),
    (
        ("data", "synth", "--output", "s", "--train", "2", "--test", "1", "--size", "48x32"),
        ("s/train_images/SYNTH_0000001.jpg", "s/test_masks/SYNTH_0000002_Segmentation.png", "s/manifest.root"),
    ),
]


@pytest.mark.parametrize(("words", "names"), ON_FILES)
def test_files_of_the_user_are_replaced_only_when_told(
    syn: Path, words: tuple[str, ...], names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(syn)
    for name in names:
        (syn / name).parent.mkdir(exist_ok=True, parents=True)
        (syn / name).write_bytes(b"mine")
    before = contents(syn)
    error = refused(*words)
    assert sorted(error.problems) == sorted(names)
    assert "--overwrite" in error.fix
    assert contents(syn) == before
    assert run(*words, "--overwrite").exit_code in (0, 3)
    # A file that may be written and was not this time stays.
    replaced = [name for name in names if not name.endswith(".warnings.txt")]
    assert all((syn / name).read_bytes() != b"mine" for name in replaced)
    # From now on they are lesionseg's own.
    (syn / "m.warnings.txt").unlink(missing_ok=True)
    assert run(*words).exit_code in (0, 3)
    (syn / replaced[0]).write_bytes(b"edited")
    assert refused(*words).problems == (replaced[0],)


def test_outputs_that_collide_and_places_that_are_none(syn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(syn)
    before = contents(syn)
    for name in ("m.root", "M.ROOT", ".", "syn", "..", "dx.csv/m.csv", "x" * 300):
        refused(*PAIR, "--output", name, "--overwrite")
        refused(*SPLIT, "--output", name, "--overwrite")
    assert contents(syn) == before
    assert not (syn / "x").exists()


def test_warnings_of_an_earlier_pairing_go_and_those_of_the_user_stay(syn: Path) -> None:
    pair = {"masks": syn / "syn/train_masks", "output": syn / "m.csv"}
    api.pair(syn / "syn/train_images", **pair)
    (syn / "m.warnings.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"m\.warnings\.txt"):
        api.pair(syn / "syn/train_images", **pair)
    api.pair(syn / "syn/train_images", **pair, overwrite=True)
    assert (syn / "m.warnings.txt").read_text() == "mine"
    (syn / "syn/train_images" / ".DS_Store").write_bytes(b"odd")
    api.pair(syn / "syn/train_images", **pair, overwrite=True)
    assert ".DS_Store" in (syn / "m.warnings.txt").read_text()
    (syn / "syn/train_images" / ".DS_Store").unlink()
    api.pair(syn / "syn/train_images", **pair)
    assert not (syn / "m.warnings.txt").exists()


# --- scores and reports -----------------------------------------------------------------------------------------------


def score(folder: Path, home: Path, **more: Any) -> Any:
    masks = home / "syn/test_masks"
    return api.evaluate_predictions(masks, folder, masks=masks, **more)


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "/abs", "con", "x" * 300, "a\nb", "a."])
def test_names_of_predictions_are_checked_first(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = run("evaluate", "--predictions", "none", "--masks", "none", "--name", name).exception
    assert isinstance(error, LesionsegError)
    assert "cannot be a run's name" in str(error) or not name
    assert list(tmp_path.iterdir()) == []


def test_a_strangers_folder_is_not_used_for_scores(syn: Path) -> None:
    folder = syn / "runs" / "N"
    (folder / "evaluation" / "test").mkdir(parents=True)
    (folder / "evaluation" / "test" / "summary.json").write_text("mine")
    before = contents(syn)
    with pytest.raises(OutputError, match="holds something else"):
        score(folder, syn)
    assert contents(syn) == before


def test_scores_are_replaced_and_what_the_user_keeps_beside_them_stays(syn: Path) -> None:
    folder = syn / "runs" / "N"
    place = folder / "evaluation" / "test"
    for _ in range(2):
        score(folder, syn)
    (place / "notes.txt").write_text("mine")
    (place / "probabilities" / "notes.txt").write_text("mine")
    score(folder, syn)
    assert (place / "notes.txt").read_text() == (place / "probabilities" / "notes.txt").read_text() == "mine"
    (picture,) = (place / "probabilities").glob("*.png")
    picture.write_bytes(b"drawn over")
    (place / "per_image.csv").write_text((place / "per_image.csv").read_text() + " ")
    with pytest.raises(OutputError, match="not written by lesionseg") as caught:
        score(folder, syn)
    assert caught.value.problems == (str(place / "per_image.csv"), str(picture))
    score(folder, syn, overwrite=True)
    assert picture.read_bytes() != b"drawn over"
    assert (place / "probabilities" / "notes.txt").read_text() == "mine"


def test_predictions_are_not_replaced_by_their_scores(syn: Path) -> None:
    folder = syn / "runs" / "N"
    score(folder, syn)
    maps = folder / "evaluation" / "test" / "probabilities"
    before = contents(maps)
    with pytest.raises(OutputError, match="replace an input"):
        api.evaluate_predictions(maps, folder, masks=syn / "syn/test_masks", probabilities=True, overwrite=True)
    assert contents(maps) == before


def test_a_refused_scoring_leaves_nothing(syn: Path, tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.mkdir()
    for path in (syn / "syn/test_masks").glob("*.png"):
        (tool / path.name).write_bytes((syn / MASK).read_bytes()[:-40])
    with pytest.raises(LesionsegError):
        api.evaluate_predictions(tool, tmp_path / "runs" / "N", masks=syn / "syn/test_masks")
    assert not (tmp_path / "runs").exists()


def test_a_report_replaces_no_file_of_the_user_and_no_scores(syn: Path) -> None:
    folder = syn / "runs" / "N"
    score(folder, syn)
    (syn / "o").mkdir()
    for name in ("report.md", "final_table.csv", "notes.txt", "loss.png"):
        (syn / "o" / name).write_text("mine")
    before = contents(syn)
    with pytest.raises(OutputError, match="not written by lesionseg") as caught:
        api.compare([folder], syn / "o", formats=["md"])
    assert {Path(problem).name for problem in caught.value.problems} == {"report.md", "final_table.csv", "loss.png"}
    with pytest.raises(OutputError, match="replace an input"):
        api.compare([folder], folder / "evaluation" / "test", formats=["csv"], overwrite=True)
    assert contents(syn) == before
    api.compare([folder], syn / "o", formats=["csv"], overwrite=True)
    assert (syn / "o" / "final_table.csv").read_text() != "mine"
    assert (syn / "o" / "loss.png").read_text() == "mine"
    (syn / "o" / "report.md").unlink()
    api.compare([folder], syn / "o", formats=["csv"])


# --- exports, benchmarks, pages and the demo --------------------------------------------------------------------------


def test_a_benchmark_replaces_no_file_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "benchmark.md").write_text("mine")
    with pytest.raises(OutputError, match=r"benchmark\.md"):
        api.benchmark(["lesionseg-lite"], tmp_path / "b")
    (tmp_path / "benchmark.csv").write_text("a model")
    with pytest.raises(OutputError, match="replace an input"):
        api.benchmark([tmp_path / "benchmark.csv"], tmp_path, overwrite=True)


def test_a_page_replaces_its_own_files_alone(tmp_path: Path) -> None:
    site = {"index.html": b"1", "ort/run.wasm": b"2"}
    write_site(site, tmp_path)
    write_site(site, tmp_path)
    (tmp_path / "index.html").write_text("edited")
    with pytest.raises(OutputError, match=r"index\.html"):
        write_site(site, tmp_path)
    write_site(site, tmp_path, overwrite=True)
    assert (tmp_path / "index.html").read_bytes() == b"1"


class StoppedError(Exception):
    """Ends a demo once its folder is prepared."""


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a demo up to its first photo."""
    monkeypatch.setattr(demo, "TRAIN", 1)
    monkeypatch.setattr(demo, "TEST", 1)

    def stop(*_: Any, **__: Any) -> None:
        raise StoppedError

    monkeypatch.setattr("lesionseg.data.synthetic.write_dataset", stop)

    def prepare(folder: Path, **more: Any) -> None:
        with pytest.raises(StoppedError):
            demo.run_demo(folder, Console(file=io.StringIO()), **more)

    return prepare


def test_a_second_demo_leaves_what_the_user_has_added(prepared: Any, tmp_path: Path) -> None:
    folder = tmp_path / "real"
    prepared(folder)
    (folder / "runs" / "mine").mkdir(parents=True)
    (folder / "runs" / "mine" / "weights").write_text("mine")
    (tmp_path / "link").symlink_to(folder)
    prepared(tmp_path / "link")
    assert (folder / "runs" / "mine" / "weights").read_text() == "mine"


def test_a_second_demo_replaces_its_runs_unless_they_were_changed(prepared: Any, tmp_path: Path) -> None:
    prepared(tmp_path)
    frozen = tmp_path / "runs" / "frozen"
    (frozen / "checkpoints").mkdir(parents=True)
    (frozen / "run.json").write_text('{"status": "finished"}')
    (frozen / "checkpoints" / "epoch-0001.json").write_text("{}")
    with pytest.raises(OutputError, match="epoch-0001"):
        demo.run_demo(tmp_path, Console(file=io.StringIO()))
    demo._record(frozen)
    prepared(tmp_path)
    assert [path.name for path in frozen.iterdir() if path.is_file() and path.name[0] != "."] == ["run.json"]
    assert not (frozen / "checkpoints" / "epoch-0001.json").exists()


def test_a_folder_that_only_looks_like_a_demo_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "made-by-lesionseg-demo.txt").write_text("x")
    with pytest.raises(OutputError, match="made-by-lesionseg-demo"):
        demo.run_demo(tmp_path, Console(file=io.StringIO()))
