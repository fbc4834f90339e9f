import sys
from pathlib import Path

import pytest

from lesionseg.errors import ConfigError
from lesionseg.training.run import run_training
from lesionseg.training.tracking import TRACKERS, open_trackers


def test_no_tracker_logs_nowhere(tmp_path: Path) -> None:
    with open_trackers((), tmp_path, {}) as log:
        log({"epoch": 1})
    assert not list(tmp_path.iterdir())


def test_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    message = r"needs the package mlflow\nFix: pip install 'lesionseg\[tracking\]'"
    with pytest.raises(ConfigError, match=message), open_trackers(["mlflow"], tmp_path, {}):
        pass


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # MLflow and TensorBoard bring their own deprecations
def test_history_arrives(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("tensorboard", "mlflow", "alembic"):
        pytest.importorskip(package, reason="needs the tracking extra")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "run"
    result = run_training(tiny.config(f"loop.trackers={list(TRACKERS)}"), run)
    wanted = [(row["epoch"], row["val_dice"]) for row in result.history]

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    assert [(e.step, e.value) for e in board.Scalars("val_dice")] == [(e, pytest.approx(v)) for e, v in wanted]

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{run / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("lesionseg")
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.data.params["loop.batch_size"] == "4"
    assert logged.info.status == "FINISHED"
    points = client.get_metric_history(logged.info.run_id, "val_dice")
    assert sorted((point.step, point.value) for point in points) == wanted
