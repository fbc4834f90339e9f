"""The house's order, read off the sources: what may import what, what is public, and what stays light."""

import ast
import importlib
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lesionseg

PACKAGE = Path(lesionseg.__file__).parent
# From the ground up. A module may import from its own floor and from those below, however deep inside a function.
FLOORS = (
    ("__init__", "signals", "streams"),
    ("errors", "records", "config", "tables", "pages", "cells", "helper", "io", "shipped_models"),
    ("data",),
    ("evaluation",),
    ("models",),
    ("training",),
    ("inference",),
    ("export",),
    ("app",),
    # What people see while work goes on.
    ("console",),
    ("api", "api_data", "api_parts", "api_scoring"),
    ("cli_options", "cli_parts"),
    ("demo", "cli_data", "cli_app", "cli_models", "cli_predict"),
    ("cli_process",),
    ("cli", "__main__"),
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
HEAVY = {"torch", "torchvision", "monai", "timm", "accelerate"}
WITHOUT_TORCH = (
    "errors",
    "records",
    "config",
    "tables",
    "shipped_models",
    *(f"data.{name}" for name in ("images", "pairing", "manifest", "splits")),
)


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


SOURCES = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def is_type_checking(node: ast.AST) -> bool:
    if not isinstance(node, ast.If):
        return False
    test = node.test
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def import_nodes(tree: ast.AST, *, in_functions: bool = True) -> Iterator[ast.Import | ast.ImportFrom]:
    """All imports that happen at run time."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif is_type_checking(node):
            yield from import_nodes(ast.Module(node.orelse, []), in_functions=in_functions)  # type: ignore[attr-defined]
        elif in_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from import_nodes(node, in_functions=in_functions)


def imported(tree: ast.AST, *, in_functions: bool = True) -> set[str]:
    """Dotted names, with ``from lesionseg import api`` told apart from ``from lesionseg import __version__``."""
    names: set[str] = set()
    for node in import_nodes(tree, in_functions=in_functions):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
            continue
        assert node.level == 0, f"line {node.lineno}: relative import"
        base = node.module or ""
        inside = base.removeprefix("lesionseg").removeprefix(".")
        for alias in node.names:
            below = f"{inside}.{alias.name}".removeprefix(".")
            names.add(f"lesionseg.{below}" if base.split(".")[0] == "lesionseg" and below in SOURCES else base)
    return names


def own_imports(tree: ast.AST, *, in_functions: bool = True) -> set[str]:
    """Modules of the package, as keys of SOURCES."""
    found = {name for name in imported(tree, in_functions=in_functions) if name.split(".")[0] == "lesionseg"}
    return {name.removeprefix("lesionseg").removeprefix(".") or "__init__" for name in found}


def outside_imports(tree: ast.AST, *, in_functions: bool = True) -> set[str]:
    return {name.split(".")[0] for name in imported(tree, in_functions=in_functions)} - {"lesionseg"}


def test_the_reader_of_imports_sees_what_it_should() -> None:
    tree = ast.parse(
        "import a.b\n"
        "from lesionseg import api, __version__\n"
        "from lesionseg.data import images\n"
        "if TYPE_CHECKING:\n    import hidden\nelse:\n    import other\n"
        "def f():\n    def g():\n        from lesionseg.errors import DataError\n"
        "class C:\n    if x:\n        import deep\n"
        "try:\n    import tried\nexcept ImportError:\n    import instead\n"
    )
    assert own_imports(tree) == {"api", "__init__", "data.images", "errors"}
    assert own_imports(tree, in_functions=False) == {"api", "__init__", "data.images"}
    assert outside_imports(tree) == {"a", "other", "deep", "tried", "instead"}


def test_every_module_has_a_floor() -> None:
    assert len(SOURCES) > 20
    assert {name.split(".")[0] for name in SOURCES} <= FLOOR.keys()


@pytest.mark.parametrize("name", SOURCES)
def test_imports_point_down(name: str) -> None:
    floor = FLOOR[name.split(".")[0]]
    assert {other for other in own_imports(SOURCES[name]) if FLOOR[other.split(".")[0]] > floor} == set()


@pytest.mark.parametrize("name", SOURCES)
def test_imports_exist(name: str) -> None:
    assert own_imports(SOURCES[name]) <= SOURCES.keys()


def test_nothing_imports_in_a_circle() -> None:
    graph = {name: own_imports(tree) for name, tree in SOURCES.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_console_is_for_commands_and_for_who_asks_for_progress() -> None:
    users = {name for name, tree in SOURCES.items() if "console" in own_imports(tree)}
    assert users <= {"cli", "cli_data", "cli_models", "cli_predict", "demo", "api", "api_parts"}


@pytest.mark.parametrize("name", SOURCES)
def test_the_package_takes_nothing_from_its_own_top_that_is_fetched_later(name: str) -> None:
    # Such an import would climb the house unseen.
    taken = {
        alias.name
        for node in import_nodes(SOURCES[name])
        if isinstance(node, ast.ImportFrom) and node.module == "lesionseg"
        for alias in node.names
    }
    assert taken - SOURCES.keys() - {"data"} <= {"RESEARCH_USE", "__version__"}


@pytest.mark.parametrize("name", [name for name in SOURCES if name.startswith("evaluation") or name in WITHOUT_TORCH])
def test_these_never_import_torch(name: str) -> None:
    assert outside_imports(SOURCES[name]) & HEAVY == set()


def test_the_light_modules_are_there() -> None:
    assert set(WITHOUT_TORCH) <= SOURCES.keys()


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_is_printed(name: str) -> None:
    calls = [node for node in ast.walk(SOURCES[name]) if isinstance(node, ast.Call)]
    assert [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"] == []


# --- public names -----------------------------------------------------------------------------------------------------


def listed(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["__all__"]:
            return list(ast.literal_eval(node.value))
    return None


def defined(tree: ast.Module) -> set[str]:
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }


def assigned(tree: ast.Module) -> set[str]:
    names = set()
    for node in tree.body:
        for target in node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]:
            if isinstance(target, ast.Name) and not target.id.startswith("_"):
                names.add(target.id)
    return names


# Typer finds its commands by their decorators; nobody imports them.
WITH_NAMES = [
    name
    for name, tree in SOURCES.items()
    if name not in ("cli", "cli_data", "__main__") and (tree.body[1:] or listed(tree))
]


@pytest.mark.parametrize("name", WITH_NAMES)
def test_public_functions_and_classes_are_listed(name: str) -> None:
    assert listed(SOURCES[name]) is not None, "no __all__"
    assert defined(SOURCES[name]) - set(listed(SOURCES[name]) or ()) == set()


@pytest.mark.parametrize("name", [*WITHOUT_TORCH, "data.transforms", "data.loader"])
def test_public_constants_of_the_foundation_are_listed(name: str) -> None:
    assert assigned(SOURCES[name]) - set(listed(SOURCES[name]) or ()) == set()


@pytest.mark.parametrize("name", WITH_NAMES)
def test_listed_names_exist_once(name: str) -> None:
    names = listed(SOURCES[name]) or []
    assert len(names) == len(set(names))
    module = importlib.import_module("lesionseg" if name == "__init__" else f"lesionseg.{name}")
    assert [entry for entry in names if not hasattr(module, entry)] == []


def test_the_top_of_the_package_offers_the_public_functions() -> None:
    functions = {"audit", "compare", "evaluate", "load", "pair", "predict", "split", "synth", "train"}
    functions |= {"read_image", "read_mask"}
    assert set(lesionseg.__all__) == functions | {"LesionsegError", "PredictOptions", "RESEARCH_USE", "__version__"}
    assert set(lesionseg.__all__) <= set(dir(lesionseg))
    # A module of the same name would take a function's place once it is imported.
    assert {name.split(".")[0] for name in SOURCES} & functions == set()
    assert all(
        getattr(lesionseg, name) is getattr(importlib.import_module("lesionseg.api"), name) for name in functions
    )
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        lesionseg.trian  # type: ignore[attr-defined]  # noqa: B018


def test_type_checkers_and_run_time_agree_on_the_top() -> None:
    seen = {
        alias.name
        for node in SOURCES["__init__"].body
        if is_type_checking(node)
        for inner in ast.walk(node)
        if isinstance(inner, ast.ImportFrom)
        for alias in inner.names
    }
    assert seen | {"RESEARCH_USE", "__version__"} == set(lesionseg.__all__)


@pytest.mark.parametrize(
    "name", sorted(set(lesionseg.__all__) - {"LesionsegError", "PredictOptions", "RESEARCH_USE", "__version__"})
)
def test_public_functions_take_text_for_paths(name: str) -> None:
    hints = inspect.get_annotations(getattr(lesionseg, name))
    assert "return" in hints
    assert [argument for argument, hint in hints.items() if argument != "return" and "Path" in hint.split(" | ")] == []


# --- weight -----------------------------------------------------------------------------------------------------------


def loaded_after(statement: str) -> set[str]:
    code = f"import json, sys\n{statement}\njson.dump(sorted(sys.modules), sys.stdout)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout))


def test_the_command_line_starts_light() -> None:
    assert outside_imports(SOURCES["cli"], in_functions=False) & (HEAVY | {"numpy", "pandas"}) == set()
    loaded = loaded_after("import lesionseg.cli")
    assert "lesionseg.errors" in loaded
    heavy = HEAVY | {"numpy", "pandas", "scipy", "matplotlib", "PIL", "nibabel", "pydantic"}
    assert loaded & heavy == set()


def test_importing_the_package_loads_nothing() -> None:
    ours = loaded_after("import lesionseg")
    assert {name for name in ours if name.startswith("lesionseg")} == {"lesionseg"}
    assert ours & (HEAVY | {"numpy", "importlib.metadata", "typer", "rich"}) == set()


def test_light_modules_load_no_torch() -> None:
    statement = "import " + ", ".join(f"lesionseg.{name}" for name in WITHOUT_TORCH)
    loaded = loaded_after(statement)
    assert {f"lesionseg.{name}" for name in WITHOUT_TORCH} <= loaded
    assert loaded & HEAVY == set()


def test_evaluation_loads_no_torch() -> None:
    names = [name for name in SOURCES if name.startswith("evaluation")]
    loaded = loaded_after("import " + ", ".join(f"lesionseg.{name}" for name in names))
    assert loaded & HEAVY == set()
