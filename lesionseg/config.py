"""RunConfig: every setting of a run, from YAML and ``key.subkey=value`` words, checked as a whole."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from lesionseg.errors import ConfigError, LesionsegError
from lesionseg.io.paths import expand_home
from lesionseg.io.reading import parse_yaml, read_yaml

__all__ = [
    "LARGEST_SIDE",
    "PRESETS",
    "STRIDE",
    "WIDTHS",
    "DataConfig",
    "LoopConfig",
    "ModelConfig",
    "OptimConfig",
    "RunConfig",
    "find_shipped",
    "is_file",
    "load_config",
    "shipped_names",
]

STRIDE = 32
"""By how much the encoder shrinks a picture; the sides of its input are multiples of it."""
WIDTHS = (0.35, 0.5, 0.75, 1.0)
"""Of the encoder: timm's mobilenetv2_035, _050, _075 and _100."""
_SHOWN = 100
LARGEST_SIDE = 4096
"""Of the network's input in pixels."""
_LARGEST_LEVEL = 2**32 - 1
_Probability = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=1, le=1_000_000)]


def _printable(value: str) -> str:
    # No file, case or model is called so, and a NUL cannot even be asked for.
    if any(not character.isprintable() for character in value):
        raise ValueError("must not hold control characters")
    return value


_Text = Annotated[str, Field(min_length=1), AfterValidator(_printable)]


PRESETS: dict[Any, dict[str, float]] = {
    "flip": {"flip": 0.5},
    "dermoscopy": {
        "flip": 0.5,
        "rotate": 180,
        "scale": 0.2,
        "shift": 0.1,
        "brightness": 0.2,
        "colour": 0.1,
        "illumination": 0.1,
        "blur": 1.0,
        "hair": 0.2,
        "cutout": 0.2,
    },
}
"""Name -> augmentation keys of ``data``: what the original works do, and what differs between dermoscopes."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator(
        *("manifest", "root", "cache", "encoder_weights", "start", "teacher", "checkpoints"), check_fields=False
    )
    @classmethod
    def _from_home(cls, value: str | None) -> str | None:
        return None if value is None else expand_home(value)


class DataConfig(_Section):
    """What is read, and how it becomes batches."""

    manifest: _Text
    """A manifest CSV, or the bare name of one that ships with lesionseg."""
    root: _Text | None = None
    """Folder that the manifest's relative paths start from; found by itself when null."""
    classes: dict[str, int | str | list[Any]] | None = None
    """Class name -> its grey level, palette index or colour (``'#ff0000'``, ``[255, 0, 0]``) in the masks, or a list of
    several, in the order of the class indices; null reads binary masks."""
    trimap: Annotated[float, Field(gt=0, le=LARGEST_SIDE)] | None = None
    """Makes three classes of binary masks, skin, border and lesion, with a border of so many pixels to each side of the
    outline at the training size; null does not."""
    image_size: tuple[int, int] = (128, 128)
    """Height and width of the network's input in pixels, multiples of 32 up to 4096."""
    validation_fraction: Annotated[float, Field(gt=0, le=0.9)] = 0.1
    """Part of the train split that is held out by group, where the manifest has no ``val`` split."""
    preset: Literal["flip", "dermoscopy"] | None = None
    """A set of augmentations (``PRESETS``); keys that are given themselves win over it."""
    flip: _Probability = 0.5
    """Probability of a horizontal and, independently, of a vertical flip."""
    rotate90: _Probability = 0.0
    """Probability of a turn by 90, 180 or 270 degrees (square inputs only)."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest turn to either side in degrees, drawn for every picture; 0 leaves it off."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest relative zoom in or out, drawn for every picture; what comes in from outside is mirrored."""
    shift: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Largest shift along each axis, as a part of the side, drawn for every picture; what comes in is mirrored."""
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest relative change of brightness; 0 leaves it off."""
    colour: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest relative change of each colour channel by itself, as between cameras and lights; 0 leaves it off."""
    illumination: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Strength of a smooth field of light and shade over the picture (MONAI's bias field); 0 leaves it off."""
    blur: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Largest deviation in pixels of a Gaussian blur, on three pictures of ten; 0 leaves it off."""
    hair: _Probability = 0.0
    """Probability of drawing hair over the picture; the mask stays."""
    artefacts: _Probability = 0.0
    """Probability of drawing one or two of: ruler, dark corners, bubbles, sticker, highlights, ink; the mask stays."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest relative change of the exponent that brightness is raised to (gamma); 0 leaves it off."""
    melanin: Annotated[float, Field(ge=0, le=3)] = 0.0
    """Largest optical density of melanin over half of the pictures: 1 makes light skin tan, 2 brown, 3 nearly dark; 0
    leaves it off."""
    haze: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest part of the light that comes from everywhere, on three pictures of ten: low contrast; 0 leaves it off."""
    noise: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Largest deviation in levels of a sensor's noise, on three pictures of ten; 0 leaves it off."""
    jpeg: Annotated[int, Field(ge=1, le=100)] = 100
    """Lowest quality of a JPEG file that three pictures of ten become; 100 leaves it off."""
    distance: Annotated[float, Field(ge=1, le=8)] = 1.0
    """How many times smaller three pictures of ten become at most, in more of their skin; 1 leaves it off."""
    lens: _Probability = 0.0
    """Probability of black around a round field of view, which ends the lesion, too."""
    cutout: _Probability = 0.0
    """Probability of hiding a rectangle of an eighth to a third of each side (arXiv:1708.04552); the mask stays."""
    workers: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Processes that prepare batches; 0 prepares them in the training process."""
    cache: _Text | None = None
    """Folder for a memory-mapped cache of the resized pictures; null keeps them in memory."""

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, tree: Any) -> Any:
        name = tree.get("preset") if isinstance(tree, Mapping) else None
        preset = PRESETS.get(name) if isinstance(name, str) else None
        return {**preset, **tree} if preset else tree

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the class indices; one name for binary masks."""
        if self.trimap is not None:
            return ("skin", "border", "lesion")
        return ("lesion",) if self.classes is None else tuple(self.classes)

    @field_validator("classes")
    @classmethod
    def _bounded(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        open_parts = [] if value is None else list(value.values())
        for title in value or ():
            _printable(title)
        while open_parts:
            part = open_parts.pop()
            if isinstance(part, list):
                open_parts += part
            elif isinstance(part, int) and abs(part) > _LARGEST_LEVEL:
                raise ValueError(f"a grey level must be at most {_LARGEST_LEVEL}")
        return value

    @field_validator("trimap")
    @classmethod
    def _binary(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("classes") is not None:
            raise ValueError("a trimap is made of binary masks: leave out data.classes")
        return value

    @field_validator("image_size", mode="before")
    @classmethod
    def _square(cls, value: object) -> object:
        return (value, value) if isinstance(value, int) else value

    @field_validator("image_size")
    @classmethod
    def _multiples(cls, value: tuple[int, int]) -> tuple[int, int]:
        if min(value) <= 0 or max(value) > LARGEST_SIDE or any(side % STRIDE for side in value):
            raise ValueError(f"height and width must be positive multiples of {STRIDE}, at most {LARGEST_SIDE}")
        return value


class ModelConfig(_Section):
    """Which network is built."""

    name: _Text = "unet"
    """A builder of ``lesionseg.models``."""
    encoder_weights: _Text = "imagenet"
    """``imagenet`` (downloaded by timm), ``random``, ``lesionseg`` (that of the default model that ships), the name of
    another such model, or a safetensors file."""
    start: _Text | None = None
    """What the whole network starts from: a run folder, for its best state, or the name of a model that ships; null
    starts the decoder at random."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """Probability with which Dropout2d drops a decoder channel."""
    rates: tuple[Annotated[int, Field(ge=1, le=LARGEST_SIDE)], ...] | None = None
    """Of the atrous convolutions of ``name: deeplab``; null takes the paper's 6, 12, 18."""
    encoder_width: float = 1.0
    """How many channels the encoder of ``name: light`` has, as a part of MobileNetV2's: 0.35, 0.5, 0.75 or 1. Weights
    of the full width are narrowed to the most important channels."""
    decoder_width: Annotated[float, Field(gt=0, le=4)] = 1.0
    """Multiplies the channels of the decoder of ``name: light``, to multiples of 8."""

    @field_validator("rates")
    @classmethod
    def _of_deeplab(cls, value: tuple[int, ...] | None, info: ValidationInfo) -> tuple[int, ...] | None:
        if value is not None and info.data.get("name") != "deeplab":
            raise ValueError("only model.name=deeplab has atrous convolutions")
        return value

    @field_validator("encoder_width")
    @classmethod
    def _known(cls, value: float) -> float:
        if value not in WIDTHS:
            raise ValueError(f"timm's MobileNetV2 comes in the widths {', '.join(map(str, WIDTHS))}")
        return value

    @field_validator("encoder_width", "decoder_width")
    @classmethod
    def _of_light(cls, value: float, info: ValidationInfo) -> float:
        if value != 1 and info.data.get("name") != "light":
            raise ValueError("only model.name=light comes in other widths than 1")
        return value


class OptimConfig(_Section):
    """What is minimised, and how."""

    name: Literal["adam", "adamw", "sgd", "adabound"] = "adam"
    """The optimiser."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of SGD."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Of convolution weights; norms and biases have none."""
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of the gradient; longer ones are shortened to it."""
    schedule: Literal["constant", "polynomial", "cosine"] = "constant"
    """How both learning rates go from their value to (nearly) zero over the run."""
    power: Annotated[float, Field(gt=0)] = 0.9
    """Of the polynomial schedule."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the steps over which the learning rates first rise."""
    loss: Literal["bce", "dice", "bce_dice", "focal", "tversky", "ce", "ce_dice"] = "bce"
    """A loss of ``lesionseg.training.losses``."""
    trim: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of each batch's pictures, those with the largest loss, that is not learned from: masks may be wrong
    (arXiv:1810.11874)."""
    class_weights: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """In the (binary) cross-entropy of ``loss``: one per class, or for binary masks that of the lesion; none: all 1."""
    encoder_lr: Annotated[float, Field(ge=0)] = 1e-4
    """The encoder's learning rate; 0 freezes it: no gradient, BatchNorm in eval mode."""
    decoder_lr: Annotated[float, Field(gt=0)] = 0.01
    """The decoder's learning rate."""

    teacher: _Text | None = None
    """A run folder (its best state) or the name of a model that ships, whose probabilities on each batch are learned
    beside the truth; null: none. Binary masks only."""
    teacher_weight: _Probability = 0.5
    """The teacher's part of what is minimised; the rest is ``loss``."""

    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay per step of an exponential moving average of the weights, then validated and kept instead; 0: none."""

    @property
    def frozen(self) -> bool:
        """Whether the encoder stays as it was loaded."""
        return self.encoder_lr == 0


class LoopConfig(_Section):
    """How long and how the training runs."""

    epochs: _Count = 50
    """Passes over the training part."""
    batch_size: _Count = 45
    """Images per step, over all processes."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Every random number comes from it."""
    best_metric: Literal["val_dice", "val_iou", "val_loss"] = "val_dice"
    """What decides which checkpoint is the best."""
    stop_at: dict[Literal["val_dice", "val_iou", "val_loss"], float] = {}
    """Stop once a metric reaches its target, for example ``{val_dice: 0.9}``."""
    patience: _Count | None = None
    """Stop after this many epochs without a better ``best_metric``; null never does."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """``auto`` takes CUDA or MPS where there is one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the forward and backward pass; weights stay fp32. ``fp16`` scales the loss and needs CUDA."""
    cache_features: bool = False
    """Computes a frozen encoder's features once instead of in every epoch; needs augmentation to be flips at most."""
    compile: bool = False
    """Compiles the training step with torch.compile: faster after a minute or two, and needs a C++ compiler."""
    channels_last: bool = True
    """Keeps a pixel's channels together in memory, which most convolutions like better."""
    threads: _Count | None = None
    """CPU threads of the network; null takes torch's choice."""
    trackers: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    """Also log to TensorBoard (``RUN/tensorboard``) or MLflow (``$MLFLOW_TRACKING_URI``, else ``RUN/mlflow.db``)."""
    keep_checkpoints: _Count = 2
    """How many of the newest checkpoints stay beside the best one."""
    checkpoints: _Text | None = None
    """Folder in which the checkpoints get one of their own, named after the run; null keeps them in the run folder."""
    example: _Text | None = None
    """A validation case, or ``first``, to predict before the training and after each epoch, as an animated
    ``RUN/example.png``; null does not."""


class RunConfig(_Section):
    """One training run. See the sections for every key."""

    data: DataConfig
    model: ModelConfig = ModelConfig()
    optim: OptimConfig = OptimConfig()
    loop: LoopConfig = LoopConfig()


def load_config(source: str | Path | Mapping[str, Any] | None = None, overrides: Iterable[str] = ()) -> RunConfig:
    """Reads a config and lays ``key.subkey=value`` words over it; values are YAML.

    Args:
        source: a YAML file, the bare name of a shipped config, a nested mapping, or None for the defaults.
        overrides: for example ``["optim.decoder_lr=0.001", "loop.stop_at={val_dice: 0.9}"]``.

    Raises:
        ConfigError: listing every unknown key, wrong value and malformed word at once.
    """
    # A section without keys is YAML for null.
    tree = {key: {} if value is None else value for key, value in _read(source).items()}
    problems = [p for word in overrides if (p := _lay_over(tree, word))]
    origin = str(source) if isinstance(source, str | Path) else "these settings"
    try:
        config = RunConfig.model_validate(tree)
    except ValidationError as error:
        problems += [_explain(e) for e in error.errors()]
    if problems:
        raise ConfigError(f"{origin} cannot be used as a config", problems=problems, fix=_key_help(problems))
    return config


def _read(source: str | Path | Mapping[str, Any] | None) -> dict[str, Any]:
    if source is None:
        return {}
    if isinstance(source, Mapping):
        return {key: dict(value) if isinstance(value, Mapping) else value for key, value in deepcopy(source).items()}
    path = find_shipped(source, "configs", ".yaml")
    tree = read_yaml(path, error=ConfigError, fix="pass a readable YAML file")
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} holds no mapping", fix="write sections such as 'data:' and 'optim:' with their keys")
    return tree


def _lay_over(tree: dict[str, Any], word: str) -> str | None:
    key, equals, text = word.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        return f"{word!r} is not of the form key.subkey=value"
    try:
        value = parse_yaml(text, "the value")
    except LesionsegError as error:
        # YAML makes dates of words that look like one.
        return f"{_shortened(word)!r}: {error.message}"
    # YAML 1.1 reads 1e-4 as a string; users mean the number, unless they quote it.
    if value == text.strip():
        value = _number(value)
    node = tree
    for part in parts[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            return f"{word!r}: {part} holds a value, not a section"
        node = child
    node[parts[-1]] = value
    return None


def _shortened(word: str) -> str:
    # A value may be megabytes long.
    return word if len(word) <= _SHOWN else f"{word[:_SHOWN]}..."


def _written(form: Callable[[Any], str], value: Any) -> str:
    try:
        return form(value)
    except ValueError:
        # Python writes no number of more than some thousand digits.
        return "a number of too many digits"


def _number(text: str) -> str | float:
    try:
        return float(text) if any(c.isdigit() for c in text) else text
    except ValueError:
        return text


def _known_keys(model: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _known_keys(info.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def _explain(error: Mapping[str, Any]) -> str:
    key = ".".join(_written(str, part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, [*RunConfig.model_fields, *_known_keys()], n=1, cutoff=0.6)
        return f"{key}: no such key" + (f"; did you mean {near[0]}?" if near else "")
    if error["type"] == "missing":
        return f"{key}: required and not given"
    text = str(error["msg"]).removeprefix("Value error, ")
    return f"{key}: {text[0].lower()}{text[1:]} (got {_shortened(_written(repr, error['input']))})"


def _key_help(problems: list[str]) -> str:
    if any("no such key" in p or "not of the form" in p for p in problems):
        return "use these keys: " + ", ".join(_known_keys())
    return "correct the values above"


def _shipped_dirs(kind: str) -> list[Path]:
    package = Path(__file__).parent
    return [folder for folder in (package / "shipped" / kind, package.parent / kind) if folder.is_dir()]


def shipped_names(kind: str, suffix: str) -> list[str]:
    """Bare names of the shipped files of one kind (``configs`` or ``data_manifests``)."""
    return sorted({path.stem for folder in _shipped_dirs(kind) for path in folder.glob(f"*{suffix}")})


def is_file(path: Path) -> bool:
    """Whether there is a file; False, unlike ``Path.is_file``, for what is too long to be a path."""
    try:
        return path.is_file()
    except OSError:
        return False


def find_shipped(source: str | Path, kind: str, suffix: str) -> Path:
    """Finds a file by its path, or by its bare name in the working folder's ``kind/`` or in the package.

    Raises:
        ConfigError: it is in none of these places.
    """
    path = Path(expand_home(str(source)))
    if is_file(path):
        return path
    name = path.name if path.suffix == suffix else path.name + suffix
    # A file named with a folder that does not exist is a mistake, unless that folder is just the shipped one's name.
    if path.parent.name in ("", kind) and not path.is_absolute():
        for folder in (Path(kind), *_shipped_dirs(kind)):
            if is_file(folder / name):
                return folder / name
    raise ConfigError(
        f"{source} is neither a file nor a shipped name",
        fix=f"give the path of a {suffix} file, or one of: {', '.join(shipped_names(kind, suffix)) or 'none shipped'}",
    )
