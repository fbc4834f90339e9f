"""A ``Predictor`` on OpenVINO: an exported ``.xml``, the ``.bin`` beside it, and no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lesionseg.errors import ConfigError, RunError
from lesionseg.inference.batches import both_classes, require_batch, require_finite
from lesionseg.inference.exported import OPENVINO_INFO, ExportInfo
from lesionseg.inference.single import TakesPhotos

if TYPE_CHECKING:
    from lesionseg.data.labels import Labels

__all__ = ["OpenvinoPredictor", "load_openvino"]


class OpenvinoPredictor(TakesPhotos):
    """A ``Predictor`` on OpenVINO's CPU kernels, one photo after the other.

    Args:
        xml, weights: the exported files' bytes.
        path: how messages call the first of them.
        threads: that share one photo; None leaves the choice to OpenVINO (all cores).

    Raises:
        ConfigError: OpenVINO is not installed.
        RunError: the bytes are no intact model, or not one that this program exported.
    """

    def __init__(self, xml: bytes, weights: bytes, path: Path, *, threads: int | None = None) -> None:
        try:
            import openvino
        except ModuleNotFoundError as error:
            raise ConfigError(f"{path} needs openvino", fix="pip install 'lesionseg[openvino]'") from error
        core = openvino.Core()
        try:
            network = core.read_model(xml, weights)
            told = network.get_rt_info([OPENVINO_INFO]).value if network.has_rt_info([OPENVINO_INFO]) else {}
            self.info = ExportInfo.from_metadata(told, path)
            self.height, self.width = self.info.height, self.info.width
            # With the number of photos left open, int8 takes half as long again.
            network.reshape([1, self.height, self.width, 3])
            self._request = core.compile_model(network, "CPU", _settings(threads)).create_infer_request()
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-200:]
            fix = "export or copy both files again"
            raise RunError(f"{path} is no intact OpenVINO model: {reason}", fix=fix) from error
        self._lock = Lock()
        self.sha256 = hashlib.sha256(xml + weights).hexdigest()
        self.labels: Labels = self.info.labels
        self.quality = self.info.quality
        self.name = path.stem
        self.checkpoint = self.info.checkpoint

    def infer(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Predictor.infer``."""
        return self._run("probability", batch)

    def infer_classes(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Predictor.infer_classes``."""
        if len(self.labels.names) == 1:
            return both_classes(self._run("probability", batch)[:, None])
        return self._run("classes", batch)

    def _run(self, output: str, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        require_batch(batch, self.height, self.width)
        # What a request gives lies in its own memory, which the next photo overwrites, another thread's too.
        with self._lock:
            found = [np.array(self._request.infer([photo[None]], share_inputs=True)[output]) for photo in batch]
        probabilities: NDArray[np.float32] = np.concatenate(found)
        require_finite(probabilities, f"{self.name} ({self.checkpoint})")
        return probabilities


def _settings(threads: int | None) -> dict[str, str | int | bool]:
    settings: dict[str, str | int | bool] = {
        # Left to itself, it computes in bfloat16 where the CPU can, which moves probabilities by up to 0.2.
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        # The cores are shared with the threads that decode and encode.
        "ENABLE_CPU_PINNING": False,
    }
    return settings if threads is None else settings | {"INFERENCE_NUM_THREADS": threads}


def load_openvino(path: Path, *, threads: int | None = None) -> OpenvinoPredictor:
    """Loads the two files that ``lesionseg export --format openvino`` wrote.

    Args:
        path: the ``.xml``; the ``.bin`` is looked for beside it.
        threads: as ``OpenvinoPredictor``.

    Raises:
        ConfigError: OpenVINO is not installed.
        RunError: a file is missing, damaged, or of another program.
    """
    files = (path, path.with_suffix(".bin"))
    try:
        xml, weights = (file.read_bytes() for file in files)
    except OSError as error:
        raise RunError(
            f"{error.filename} cannot be read: {error.strerror}",
            fix="keep the .xml and the .bin of an export side by side, under one name",
        ) from error
    return OpenvinoPredictor(xml, weights, path, threads=threads)
