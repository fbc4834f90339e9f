"""A ``Predictor`` on ONNX Runtime: an exported file and no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lesionseg.errors import RunError
from lesionseg.inference.batches import both_classes, require_batch, require_finite
from lesionseg.inference.exported import INPUT, ExportInfo
from lesionseg.inference.single import TakesPhotos

if TYPE_CHECKING:
    from lesionseg.data.labels import Labels

__all__ = ["OnnxPredictor", "load_onnx"]


class OnnxPredictor(TakesPhotos):
    """A ``Predictor`` on ONNX Runtime's CPU kernels.

    Args:
        data: the exported file's bytes.
        path: how messages call it.
        threads: that share one batch; None leaves the choice to ONNX Runtime (all cores).
        name: the model's; by default that of the file.

    Raises:
        RunError: the bytes are no intact model, or not one that this program exported.
    """

    def __init__(self, data: bytes, path: Path, *, threads: int | None = None, name: str | None = None) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as errors

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        # Threads that wait by spinning would take the cores from those that decode and encode.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except (errors.Fail, errors.InvalidProtobuf, errors.InvalidGraph, errors.InvalidArgument) as error:
            reason = " ".join(str(error).split())[:200]
            raise RunError(f"{path} is no intact ONNX model: {reason}", fix="export or copy it again") from error
        self.info = ExportInfo.from_metadata(self._session.get_modelmeta().custom_metadata_map, path)
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.height, self.width = self.info.height, self.info.width
        self.labels: Labels = self.info.labels
        self.quality = self.info.quality
        self.name = name or path.stem
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
        (found,) = self._session.run([output], {INPUT: batch})
        probabilities: NDArray[np.float32] = found
        require_finite(probabilities, f"{self.name} ({self.checkpoint})")
        return probabilities


def load_onnx(path: Path, *, threads: int | None = None) -> OnnxPredictor:
    """Loads a file that ``lesionseg export`` wrote.

    Raises:
        RunError: it is missing, damaged, or of another program.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}", fix="check the path") from error
    return OnnxPredictor(data, path, threads=threads)
