import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from lesionseg import api, cli
from lesionseg.errors import ConfigError, RunError
from lesionseg.training.fit import FitResult
from lesionseg.training.sweep import Variant, check_variants, plan_sweep, run_sweep
from lesionseg.training.watch import Watcher


def names(*sweeps: str, name: str = "run") -> list[str]:
    return [variant.name for variant in plan_sweep(name, sweeps)]


def test_one_key() -> None:
    assert plan_sweep("try", ["optim.loss=bce,dice"]) == [
        Variant("try-loss=bce", ("optim.loss=bce",)),
        Variant("try-loss=dice", ("optim.loss=dice",)),
    ]


def test_several_keys_give_every_combination() -> None:
    assert names("optim.encoder_lr=0,1e-4", "loop.seed=1,2") == [
        "run-encoder_lr=0-seed=1",
        "run-encoder_lr=0-seed=2",
        "run-encoder_lr=1e-4-seed=1",
        "run-encoder_lr=1e-4-seed=2",
    ]


def test_keys_of_one_name_are_written_out() -> None:
    assert names("optim.name=adam,sgd", "model.name=unet") == [
        "run-optim.name=adam-model.name=unet",
        "run-optim.name=sgd-model.name=unet",
    ]


def test_commas_inside_a_value() -> None:
    variants = plan_sweep("run", ["data.image_size=[64, 64],[96,64]", "loop.stop_at={val_dice: 0.9, val_iou: 1},{}"])
    assert [variant.words[0] for variant in variants[::2]] == ["data.image_size=[64, 64]", "data.image_size=[96,64]"]
    assert variants[0].words[1] == "loop.stop_at={val_dice: 0.9, val_iou: 1}"
    assert variants[0].name == "run-image_size=_64_64_-stop_at=_val_dice_0.9_val_iou_1_"


@pytest.mark.parametrize("values", ["/a/b.safetensors,/a_b.safetensors", "A,a", f"{'x' * 200},{'x' * 201}"])
def test_names_stay_apart_and_short(values: str) -> None:
    found = names(f"model.encoder_weights={values}", name="n" * 30)
    assert len({name.lower() for name in found}) == 2
    assert max(map(len, found)) <= 100
    assert not set("".join(found)) & set(" /,[]{}\"'")
    # The same every time, so that --resume finds them.
    assert found == names(f"model.encoder_weights={values}", name="n" * 30)


@pytest.mark.parametrize("word", ["optim.loss", "=a,b", "optim.loss=", "optim.loss=a,,b", "optim.loss=a,a", "a=[1,2"])
def test_a_malformed_sweep_is_named(word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_sweep("run", [word, "loop.seed=1,2", "loop.seed=3"])
    assert caught.value.problems == (
        f"{word!r} is not of the form key.subkey=a,b,c with different values",
        "loop.seed is swept twice",
    )


def test_mistakes_of_all_variants_are_told_before_the_first_one_trains(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        api.sweep({"data": {"manifest": "x"}}, "try", ["optim.loss=bce,mse", "loop.epochs=1,0"], tmp_path)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "try-loss=bce-epochs=0",
        *["try-loss=mse-epochs=1"],
        *["try-loss=mse-epochs=0"] * 2,
    ]
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="cannot be trained") as caught:
        api.sweep({"data": {"manifest": "x"}}, "try", ["model.name=unet,ligth", "optim.loss=bce,ce"], tmp_path)
    assert len(caught.value.problems) == 3


def test_several_processes_cannot_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(ConfigError, match="one process"):
        check_variants({"data": {"manifest": "x"}}, (), plan_sweep("run", ["loop.seed=1,2"]))


def test_the_others_go_on_after_a_failure_but_not_after_ctrl_c() -> None:
    variants = plan_sweep("run", ["loop.seed=1,2,3,4"])
    ends = {"run-seed=2": RunError("no"), "run-seed=3": FitResult("interrupted", "", ())}

    def train(variant: Variant) -> FitResult:
        end = ends.get(variant.name, FitResult("finished", "", ()))
        if isinstance(end, RunError):
            raise end
        return end

    results = run_sweep(variants, train)
    assert list(results) == ["run-seed=1", "run-seed=2", "run-seed=3"]
    assert results["run-seed=2"] is ends["run-seed=2"]


def test_a_bug_is_not_a_failure() -> None:
    def train(variant: Variant) -> FitResult:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_sweep(plan_sweep("run", ["loop.seed=1"]), train)


@pytest.mark.long
def test_resumed_it_goes_on_where_it_was(tiny, tmp_path: Path) -> None:
    config = tiny.config("loop.epochs=1").model_dump()
    seen: list[int] = []

    def count(epochs: int) -> dict[str, object]:
        config["loop"]["epochs"] = epochs
        watcher = Watcher(on_epoch=lambda row: seen.append(row["epoch"]))
        return api.sweep(
            config, "run", ["loop.seed=1,2"], tmp_path, resume=True, watch=lambda name: nullcontext(watcher)
        )

    api.train(config, tmp_path / "run-seed=2", overrides=["loop.seed=2"])
    assert {result.status for result in count(1).values()} == {"finished"}  # type: ignore[attr-defined]
    assert seen == [1]
    count(2)
    assert seen == [1, 2, 2]


@pytest.mark.long
def test_on_the_command_line(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def lesionseg(*words: str) -> Result:
        return CliRunner().invoke(cli.app, words, catch_exceptions=False)

    small = ["data.image_size=64", "loop.epochs=1", "loop.batch_size=4", "optim.encoder_lr=0", "loop.device=cpu"]
    words = ["train", "--name", "try", f"data.manifest={tiny.manifest}", *small]
    swept = lesionseg(
        *words, "--sweep", "model.encoder_weights=missing.safetensors,random", "--sweep", "model.dropout=0,0.5"
    )
    assert swept.exit_code == 3, swept.stderr
    runs = ["try-encoder_weights=random-dropout=0", "try-encoder_weights=random-dropout=0.5"]
    assert [json.loads((tmp_path / "runs" / run / "run.json").read_text())["status"] for run in runs] == [
        "finished"
    ] * 2
    assert "Error try-encoder_weights=missing.safetensors-dropout=0:" in swept.stderr
    line = next(line for line in swept.stdout.splitlines() if "report --compare" in line)
    assert ",".join(runs) in line
    compared = lesionseg(*line.partition("lesionseg ")[2].split())
    assert compared.exit_code == 0, compared.stderr
    assert (tmp_path / "runs" / "report-try" / "report.html").is_file()
