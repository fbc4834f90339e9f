"""Settings: from YAML, mappings and words; wrong ones are all listed at once."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lesionseg.config import (
    STRIDE,
    DataConfig,
    RunConfig,
    _known_keys,
    find_shipped,
    is_file,
    load_config,
    shipped_names,
)
from lesionseg.errors import ConfigError

GIVEN = {"data": {"manifest": "x"}}
REPOSITORY = Path(__file__).parents[1]


def problems_of(source: Any = None, overrides: tuple[str, ...] = ()) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_config(source, overrides)
    assert caught.value.fix
    return caught.value.problems


# --- what is right --------------------------------------------------------------------------------------------------


def test_only_the_manifest_has_no_default() -> None:
    assert load_config(GIVEN) == RunConfig(data=DataConfig(manifest="x"))
    assert problems_of({}) == ("data: required and not given",)
    assert problems_of({"data": {}}) == ("data.manifest: required and not given",)


@pytest.mark.parametrize(
    ("word", "section", "name", "value"),
    [
        ("optim.encoder_lr=0", "optim", "encoder_lr", 0.0),
        ("optim.decoder_lr=1e-4", "optim", "decoder_lr", 1e-4),
        ("optim.decoder_lr= 1e-4 ", "optim", "decoder_lr", 1e-4),
        ("loop.epochs=3", "loop", "epochs", 3),
        ("loop.epochs=1e1", "loop", "epochs", 10),
        (" loop.epochs =3", "loop", "epochs", 3),
        ("loop.stop_at={val_dice: 9e-1, val_loss: 0.1}", "loop", "stop_at", {"val_dice": 0.9, "val_loss": 0.1}),
        ("loop.stop_at.val_iou=0.8", "loop", "stop_at", {"val_iou": 0.8}),
        ("loop.patience=null", "loop", "patience", None),
        ("loop.patience=", "loop", "patience", None),
        ("data.image_size=64", "data", "image_size", (64, 64)),
        ("data.image_size=[64, 96]", "data", "image_size", (64, 96)),
        ("data.manifest=a=b.csv", "data", "manifest", "a=b.csv"),
        ("data.manifest='0000012'", "data", "manifest", "0000012"),
        ('data.root="1e5"', "data", "root", "1e5"),
        ("data.root=runs/1e5", "data", "root", "runs/1e5"),
    ],
)
def test_a_word_sets_a_key(word: str, section: str, name: str, value: object) -> None:
    assert getattr(getattr(load_config(GIVEN, [word]), section), name) == value


def test_the_last_word_wins_over_the_source() -> None:
    source = {"data": {"manifest": "x"}, "loop": {"epochs": 2, "seed": 5}}
    loop = load_config(source, ["loop.epochs=3", "loop.epochs=4"]).loop
    assert (loop.epochs, loop.seed) == (4, 5)


def test_the_source_is_left_as_it_was() -> None:
    source = {"data": {"manifest": "x"}, "loop": {"stop_at": {"val_dice": 0.5}}}
    before = deepcopy(source)
    config = load_config(source, ["loop.stop_at.val_iou=0.3", "data.manifest=y"])
    assert config.loop.stop_at == {"val_dice": 0.5, "val_iou": 0.3}
    assert source == before


@given(
    size=st.tuples(*[st.integers(1, 20).map(STRIDE.__mul__)] * 2),
    fraction=st.floats(0.001, 0.9),
    rates=st.tuples(st.floats(0, 10), st.floats(1e-12, 10)),
    seed=st.integers(0, 2**32 - 1),
    targets=st.dictionaries(st.sampled_from(["val_dice", "val_iou", "val_loss"]), st.floats(0, 1)),
)
def test_words_yaml_and_json_give_the_same_config(
    size: tuple[int, int], fraction: float, rates: tuple[float, float], seed: int, targets: dict[str, float]
) -> None:
    words = {
        "data.manifest": "x",
        "data.image_size": list(size),
        "data.validation_fraction": fraction,
        "optim.encoder_lr": rates[0],
        "optim.decoder_lr": rates[1],
        "loop.seed": seed,
        "loop.stop_at": targets,
    }
    config = load_config(
        None, [f"{key}={yaml.safe_dump(value, default_flow_style=True)}" for key, value in words.items()]
    )
    assert config.data.image_size == size
    assert (config.data.validation_fraction, config.loop.seed) == (fraction, seed)
    assert (config.optim.encoder_lr, config.optim.decoder_lr) == rates
    assert config.loop.stop_at == targets
    assert config.optim.frozen == (rates[0] == 0)
    plain = config.model_dump(mode="json")
    assert load_config(plain) == config
    assert load_config(yaml.safe_load(yaml.safe_dump(plain))) == config


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_config(GIVEN).data.manifest = "y"


# --- what is wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (
            "data.image_size=100",
            "data.image_size: height and width must be positive multiples of 32, at most 4096 (got",
        ),
        ("data.image_size=0", "multiples of 32"),
        ("data.image_size=[64, -64]", "multiples of 32"),
        ("data.image_size=[64]", "data.image_size"),
        ("data.image_size=[64, 64, 3]", "data.image_size"),
        ("data.validation_fraction=0", "data.validation_fraction: input should be greater than 0 (got 0)"),
        (
            "data.validation_fraction=0.999",
            "data.validation_fraction: input should be less than or equal to 0.9 (got 0.999)",
        ),
        ("data.image_size=320000", "data.image_size: height and width must be positive multiples of 32, at most 4096"),
        ("loop.threads=1000001", "loop.threads: input should be less than or equal to 1000000"),
        ("loop.epochs=1e400", "loop.epochs: "),
        ("optim.decoder_lr=.nan", "optim.decoder_lr: input should be a finite number"),
        ("optim.decoder_lr=-.inf", "optim.decoder_lr: input should be a finite number"),
        (f"data.manifest=0x{'f' * 5000}", "should be a valid string (got a number of too many digits)"),
        ("data.classes={a: 0, b: 99999999999}", "a grey level must be at most 4294967295"),
        ('data.root="a\\nb"', "data.root: must not hold control characters"),
        ('data.manifest="\\0"', "data.manifest: must not hold control characters"),
        ("data.root=''", "data.root: string should have at least 1 character"),
        ("data.flip=1.5", "data.flip"),
        ("data.brightness=1", "data.brightness"),
        ("data.workers=-1", "data.workers"),
        ("data.manifest=12", "data.manifest: input should be a valid string (got 12)"),
        ("model.dropout=1", "model.dropout"),
        (
            "model.encoder_width=0.5",
            "model.encoder_width: only model.name=light comes in other widths than 1 (got 0.5)",
        ),
        (
            "model.decoder_width=0.5",
            "model.decoder_width: only model.name=light comes in other widths than 1 (got 0.5)",
        ),
        ("model.encoder_width=0.4", "comes in the widths 0.35, 0.5, 0.75, 1.0 (got 0.4)"),
        ("model.decoder_width=0", "model.decoder_width: input should be greater than 0 (got 0)"),
        ("data.preset=[flip]", "data.preset: "),
        ("data.manifest=2020-13-45", "the value is not valid YAML"),
        ("optim.teacher=''", "optim.teacher"),
        ("optim.teacher_weight=1.1", "optim.teacher_weight: input should be less than or equal to 1 (got 1.1)"),
        ("optim.name=lion", "optim.name: input should be 'adam', 'adamw', 'sgd' or 'adabound' (got 'lion')"),
        ("optim.loss=mse", "'tversky', 'ce' or 'ce_dice' (got 'mse')"),
        ("optim.encoder_lr=-1", "optim.encoder_lr"),
        ("optim.decoder_lr=0", "optim.decoder_lr"),
        ("optim.decoder_lr=.nan", "finite number"),
        ("optim.decoder_lr=.inf", "finite number"),
        ("loop.epochs=0", "loop.epochs"),
        ("loop.epochs=1.5", "loop.epochs"),
        ("loop.seed=4294967296", "loop.seed"),
        ("loop.stop_at.val_auc=0.5", "loop.stop_at.val_auc"),
        ("loop.precision=fp8", "loop.precision: input should be 'fp32', 'bf16' or 'fp16' (got 'fp8')"),
        ("loop.channels_last=maybe", "loop.channels_last"),
        ("loop.device=tpu", "loop.device: input should be 'auto', 'cpu', 'cuda' or 'mps' (got 'tpu')"),
        ("loop.checkpoints=''", "loop.checkpoints"),
        ("loop.example=3", "loop.example: input should be a valid string (got 3)"),
        ("loop.epoch=3", "loop.epoch: no such key; did you mean loop.epochs?"),
        ("modle.name=unet", "modle: no such key; did you mean model?"),
        ("optim.nesterov.x=1", "optim.nesterov: no such key"),
        ("epochs", "'epochs' is not of the form key.subkey=value"),
        ("=3", "'=3' is not of the form key.subkey=value"),
        ("loop..epochs=3", "is not of the form key.subkey=value"),
        ("loop.epochs=[1", "'loop.epochs=[1': the value is not valid YAML"),
        ("loop.stop_at={val_dice: 0.9, val_dice: 0.8}", "the key 'val_dice' is given twice"),
        ("loop.epochs=" + "[" * 3000, "nested more than 50 levels deep"),
        ("data.manifest.x=1", "data.manifest.x=1': manifest holds a value, not a section"),
    ],
)
def test_a_wrong_word_is_named(word: str, said: str) -> None:
    found = problems_of(GIVEN, (word,))
    assert len(found) == 1
    assert said in found[0]


def test_every_problem_is_listed_at_once() -> None:
    source = {"data": {"manifest": "x", "image_size": 33}, "optim": {"los": "bce"}, "lop": {}}
    found = problems_of(source, ("loop.epochs=0", "nonsense", "model.dropout=[", "loop.seed=-1"))
    expected = ("nonsense", "model.dropout=[", "data.image_size", "optim.los:", "lop:", "loop.epochs", "loop.seed")
    assert [key for key in expected if not any(key in problem for problem in found)] == []
    assert len(found) == len(expected)


def test_unknown_keys_bring_the_list_of_keys() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(GIVEN, ["x.y=1"])
    for key in ("data.manifest", "optim.encoder_lr", "loop.keep_checkpoints"):
        assert key in caught.value.fix


@pytest.mark.parametrize("source", [{1: 2}, {"data": 3}, {"data": {"manifest": None}}])
def test_a_malformed_mapping_is_no_crash(source: Any) -> None:
    assert len(problems_of(source, ("optim.loss=dice",))) >= 1


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_yaml_file_with_an_empty_section(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data:\n  manifest: x\noptim:\n  # decoder_lr: 1\nloop:\n  epochs: 7\n", encoding="utf-8")
    config = load_config(path, ["optim.loss=dice"])
    assert (config.optim.loss, config.loop.epochs) == ("dice", 7)
    assert load_config(str(path)).optim == load_config(GIVEN).optim


def _aliases(levels: int) -> bytes:
    """A few hundred bytes that stand for 9 ** levels values."""
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"data: [", "is not valid YAML"),
        (b"\xff\xfe\x00", "is not UTF-16 text"),
        (b"\x80", "is not UTF-8 text"),
        (b"data: {manifest: a}\nloop: {epochs: 1}\ndata: {manifest: b}\n", "the key 'data' is given twice"),
        (b"data: " + b"[" * 20000, "nested more than 50 levels deep"),
        (_aliases(9), "values once its aliases are expanded"),
        (b"x" * (2**20 + 1), "is larger than"),
        (b"- a\n- b\n", "holds no mapping"),
        (b"just words", "holds no mapping"),
        (b"", "cannot be used as a config"),
        (b"!!python/object/apply:os.system ['true']", "is not valid YAML"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.message.startswith(str(path))
    assert said in caught.value.message


def test_every_shipped_config_loads() -> None:
    names = shipped_names("configs", ".yaml")
    assert set(names) >= {"demo", "isic2016-frozen", "isic2016-finetuned"}
    for name in names:
        overrides = () if name != "demo" else ("data.manifest=x",)
        assert load_config(name, overrides) == load_config(f"configs/{name}.yaml", overrides)
    assert load_config("isic2016-frozen").optim.frozen
    assert not load_config("isic2016-finetuned").optim.frozen


def test_the_working_folder_goes_before_the_shipped_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = find_shipped("demo", "configs", ".yaml")
    assert shipped.read_bytes() == (REPOSITORY / "configs" / "demo.yaml").read_bytes()
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.yaml").write_text("loop: {epochs: 77}")
    assert load_config("demo", ["data.manifest=x"]).loop.epochs == 77
    (tmp_path / "demo").write_text("loop: {epochs: 78}")
    assert load_config("demo", ["data.manifest=x"]).loop.epochs == 78


@pytest.mark.parametrize(
    "source", ["no-such", "elsewhere/demo.yaml", "/configs/demo.yaml", "../configs2/demo", "", ".", "a\0b", "x" * 5000]
)
def test_a_name_that_is_nowhere(source: str) -> None:
    with pytest.raises(ConfigError, match="neither a file nor a shipped name") as caught:
        find_shipped(source, "configs", ".yaml")
    assert "isic2016-frozen" in caught.value.fix


def test_is_file(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert is_file(tmp_path / "f")
    assert not is_file(tmp_path)
    assert not is_file(tmp_path / ("x" * 5000))


def test_atrous_rates_belong_to_deeplab() -> None:
    assert load_config({"data": {"manifest": "x"}}, ["model.name=deeplab", "model.rates=[2, 4]"]).model.rates == (2, 4)
    with pytest.raises(ConfigError, match=r"model.rates: only model.name=deeplab"):
        load_config({"data": {"manifest": "x"}}, ["model.rates=[2, 4]"])


def test_widths_belong_to_light() -> None:
    words = ["model.name=light", "model.encoder_width=0.35", "model.decoder_width=0.5"]
    model = load_config(GIVEN, words).model
    assert (model.encoder_width, model.decoder_width) == (0.35, 0.5)
    assert len(problems_of(GIVEN, tuple(words[1:]))) == 2


# --- any value ------------------------------------------------------------------------------------------------------

KEYS = sorted(_known_keys())
# Longer numbers are not written by Python, nor by hypothesis where an example fails.
EDGES = [10**400, -(10**400), 1e308, -1e308, 5e-324, float("nan"), float("inf"), -1, 0, 1, 2**63, 0.999, "", "\0", b"x"]
VALUES = st.recursive(
    st.one_of(st.sampled_from(EDGES), st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=5,
)
WORDS = [
    "1e400",
    "-.inf",
    ".nan",
    "!!binary x",
    "2020-01-01",
    "{",
    "[[[",
    "&a [*a]",
    '"\\0"',
    "~",
    "- a",
    "? b",
    "1:30",
    "'",
]


def is_config_or_one_error(source: Any, words: tuple[str, ...] = ()) -> None:
    try:
        result: RunConfig | ConfigError = load_config(source, words)
    except ConfigError as error:
        result = error
    if isinstance(result, ConfigError):
        assert result.problems
        assert result.fix
        # It can be printed.
        str(result).encode()


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(KEYS), VALUES)
def test_any_value_of_any_key(key: str, value: Any) -> None:
    section, _, name = key.partition(".")
    source: dict[str, dict[str, Any]] = {"data": {"manifest": "x"}}
    source.setdefault(section, {})[name] = value
    is_config_or_one_error(source)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*KEYS, "data", "", "data.x", "x.y.z"]), st.text(max_size=20) | st.sampled_from(WORDS))
def test_any_word(key: str, text: str) -> None:
    is_config_or_one_error(GIVEN, (f"{key}={text}",))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["data", "model", "optim", "loop"]) | st.text(max_size=3), VALUES, max_size=3))
def test_any_tree(tree: dict[str, Any]) -> None:
    is_config_or_one_error(tree)
