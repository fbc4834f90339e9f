"""Options, and a tiny generated data set that many tests share."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

# Tiny networks gain nothing from threads, and lose much when tests run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pictures import put

from lesionseg.config import RunConfig, load_config
from lesionseg.data.manifest import write_manifest
from lesionseg.data.pairing import Folders, pair_folders
from lesionseg.data.synthetic import DatasetFolders, write_dataset


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests that take seconds each, as CI does")
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes each")


def pytest_configure() -> None:
    # Started in the background of a script or under nohup, these are ignored, by the processes of the tests as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_report_header(config: pytest.Config) -> list[str]:
    return [] if _with_long(config) else ["tests that take seconds each are left out, unless named; --long runs them"]


def _with_long(config: pytest.Config) -> bool:
    """Whether they were asked for: with the option, or because they are some of the slow ones, or by name."""
    return any((config.getoption("--long"), config.getoption("--slow"), any("::" in word for word in config.args)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    data = Path(os.environ.get("LESIONSEG_DATA", ""))
    skips = {
        "slow": None if config.getoption("--slow") else "minutes long; run with --slow",
        "real": None if (data / "isic2016").is_dir() else "LESIONSEG_DATA names no folder with isic2016",
    }
    for item in items:
        # Making a stand-in for a model that ships takes a quarter of a minute.
        if "bundles" in item.fixturenames:  # type: ignore[attr-defined]
            item.add_marker("long")
        for marker, reason in skips.items():
            if reason and marker in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))
    if not _with_long(config):
        left_out = {item for item in items if "long" in item.keywords and "real" not in item.keywords}
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def save(tmp_path: Path) -> Callable[[str, bytes], Path]:
    return lambda name, data: put(tmp_path / name, data)


@dataclass(frozen=True)
class Tiny:
    """Ten training and four test photos of 96 x 72 pixels, with a manifest."""

    folders: DatasetFolders
    manifest: Path

    def config(self, *words: str) -> RunConfig:
        """Small enough for seconds: 64 pixels, two epochs, batches of four, one thread."""
        base = {
            "data": {"manifest": str(self.manifest), "image_size": 64, "validation_fraction": 0.3},
            "model": {"encoder_weights": "random", "dropout": 0.4},
            "optim": {"encoder_lr": 1e-4, "decoder_lr": 0.01},
            "loop": {"epochs": 2, "batch_size": 4, "device": "cpu", "threads": 1},
        }
        return load_config(base, words)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    home = tmp_path_factory.mktemp("tiny")
    folders = write_dataset(home / "photos", train=10, test=4, width=96, height=72)
    cases = pair_folders(
        [
            Folders("train", folders.train_images, folders.train_masks),
            Folders("test", folders.test_images, folders.test_masks),
        ],
        labels={"SYNTH_0000011": "malignant"},
    )
    write_manifest(cases, home / "tiny.csv")
    return Tiny(folders, home / "tiny.csv")


@pytest.fixture(scope="session")
def exported(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A trained run of 64 x 96 pixels, and its float32 ONNX file in another folder, made on the command line."""
    from typer.testing import CliRunner

    from lesionseg import api, cli

    run = tmp_path_factory.mktemp("exported") / "one"
    api.train(tiny.config("loop.epochs=1", "data.image_size=[64, 96]"), run)
    file = tmp_path_factory.mktemp("files") / "small.onnx"
    result = CliRunner().invoke(cli.app, ["export", str(run), "--output", str(file)], catch_exceptions=False)
    assert "probabilities differ from torch's by" in result.output
    return run, file


@pytest.fixture(scope="session")
def bundles(exported: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as ``lesionseg/shipped_models``, with a stand-in for the default model, made on the command line."""
    from typer.testing import CliRunner

    from lesionseg import cli
    from lesionseg.export import judging
    from lesionseg.inference import quality
    from lesionseg.shipped_models import DEFAULT

    folder = tmp_path_factory.mktemp("shipped")
    about = tmp_path_factory.mktemp("about") / "about.yaml"
    about.write_text("data: Generated photos.\nlicence: Apache-2.0\nspeed: 1.5\n")
    words = ["export", str(exported[0]), "--format", "bundle", "--output", str(folder / DEFAULT), "--max-drop", "100"]
    with pytest.MonkeyPatch.context() as patch:
        # Three validation photos are calibration enough for a stand-in.
        for module in (quality, judging):
            patch.setattr(module, "FEWEST", 3)
        result = CliRunner().invoke(cli.app, [*words, "--about", str(about)], catch_exceptions=False)
    assert "scoring 4 test photos" in result.output
    return folder


@pytest.fixture
def shipped(bundles: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in's folder, where it ships."""
    from lesionseg import shipped_models

    monkeypatch.setattr(shipped_models, "_FOLDER", bundles)
    return bundles / shipped_models.DEFAULT
