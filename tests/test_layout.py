"""What belongs where: layers, exports, what an import loads, and what is packed."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import fedsim

HOME = Path(__file__).resolve().parent.parent
PACKAGES = ("fedsim", "clients", "strategies")
FILES = sorted(file for package in PACKAGES for file in (HOME / package).rglob("*.py"))
HEAVY = ("torch", "flwr", "monai", "matplotlib", "sklearn", "opacus")


def python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process with some folders first on its path."""
    found = os.pathsep.join(map(str, paths))
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": found, "PYTHONSAFEPATH": "1"},
    )


def test_the_layers_hold() -> None:
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
    subprocess.run([sys.executable, "-c", code], cwd=HOME, check=True, capture_output=True)


def test_what_is_exported_is_what_is_importable() -> None:
    assert fedsim.__all__ == sorted(fedsim._EXPORTS)
    for name in fedsim.__all__:
        module, attribute = fedsim._EXPORTS[name]
        assert getattr(fedsim, name) is getattr(importlib.import_module(module), attribute)
        assert (getattr(fedsim, name).__doc__ or "").strip()
    with pytest.raises(AttributeError, match="'fedsim' has no attribute 'absent'"):
        fedsim.absent  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse((HOME / "fedsim" / "__init__.py").read_text(encoding="utf-8"))
    seen = {
        alias.asname or alias.name: (node.module, alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == fedsim._EXPORTS


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(HOME)))
def test_every_module_says_what_it_is_for(file: Path) -> None:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    assert docstring
    assert docstring.split("\n")[0].endswith((".", ":", "?"))


@pytest.mark.parametrize(
    "statement",
    [
        "import fedsim",
        "import clients.objectives, clients.optimizer, clients.augmentation, clients.training",
        "import strategies",
        "import fedsim.models, fedsim.data.sources, fedsim.data.population",
        "import fedsim.scenario",
        "import fedsim.records",
        "import fedsim.cli",
        "import fedsim; fedsim.load_scenario('scenarios/quickstart.yaml').resolved()",
        "import fedsim; fedsim.load_study('scenarios/quick_study.yaml').resolved()",
        "import fedsim.scenario as s; "
        "s.open_population(s.load_scenario('scenarios/quickstart.yaml')).table()",
    ],
)
def test_describing_a_study_loads_nothing_heavy(
    statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(HOME)
    done = python(
        f"import json, sys; {statement}; "
        f"print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == []


def test_a_loaded_package_would_be_noticed() -> None:
    assert all(find_spec(name) for name in HEAVY)


def imported_at_once(tree: ast.Module) -> Iterator[str]:
    """Yield the modules that importing a module imports; not those only a type checker wants."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def test_only_modules_that_compute_import_torch() -> None:
    at_once = {
        str(file.relative_to(HOME))
        for file in FILES
        for name in imported_at_once(ast.parse(file.read_text(encoding="utf-8")))
        if name.partition(".")[0] == "torch"
    }
    assert "fedsim/models/networks.py" in at_once  # the control
    described = ("fedsim/scenario", "fedsim/data", "fedsim/records", "fedsim/cli")
    assert not [file for file in at_once if file.startswith(described)]
    assert {file for file in at_once if file.startswith("fedsim/models/")} == {
        "fedsim/models/networks.py"
    }


@pytest.mark.parametrize("name", ["clients", "strategies"])
@pytest.mark.parametrize("form", ["package", "module"])
def test_a_stranger_of_the_same_name_is_refused(tmp_path: Path, name: str, form: str) -> None:
    stranger = tmp_path / name / "__init__.py" if form == "package" else tmp_path / f"{name}.py"
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_text("raise SystemExit('was executed')")
    done = python("import fedsim", tmp_path, HOME)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: fedsim needs its own package {name!r} beside it")
    assert str(stranger.parent if form == "package" else stranger) in last
    assert python("import fedsim", HOME, tmp_path).returncode == 0


@pytest.mark.parametrize("name", ["clients", "strategies"])
def test_a_plain_folder_of_the_same_name_does_no_harm(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    done = python("import fedsim, clients.metrics, strategies", tmp_path, HOME)
    assert done.returncode == 0, done.stderr


def test_a_lost_neighbour_is_named(tmp_path: Path) -> None:
    for package in ("fedsim", "strategies"):
        (tmp_path / package).symlink_to(HOME / package)
    (tmp_path / "fedsim").unlink()
    (tmp_path / "fedsim").mkdir()
    (tmp_path / "fedsim" / "__init__.py").write_bytes((HOME / "fedsim/__init__.py").read_bytes())
    done = python(
        f"import sys; sys.path[:] = [{str(tmp_path)!r}, *[p for p in sys.path if 'python' in p "
        f"and 'site-packages' not in p]]; import fedsim"
    )
    assert "ImportError: fedsim needs its own package 'clients' beside it" in done.stderr
    assert "but Python finds none" in done.stderr


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with wheel and sdist, built from what is here without a network."""
    for needed in ("build", "hatchling"):
        if find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed, so nothing can be built")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--sdist", "--no-isolation"]
    done = subprocess.run([*command, "--outdir", out, HOME], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.slow
def test_the_wheel_holds_the_three_packages_and_no_more(packed: Path) -> None:
    with zipfile.ZipFile(next(packed.glob("*.whl"))) as wheel:
        names = [name for name in wheel.namelist() if not name.endswith("/")]
    tops = {name.partition("/")[0] for name in names}
    info = {top for top in tops if top.endswith(".dist-info")}
    assert len(info) == 1
    assert tops - info == set(PACKAGES)
    assert {HOME / name for name in names if name.endswith(".py")} == set(FILES)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    assert any(name.endswith("licenses/LICENSE") for name in names)
    marked = {package for package in PACKAGES if f"{package}/py.typed" in names}
    assert marked == set(PACKAGES), "the wheel says `Typing :: Typed`"


@pytest.mark.slow
def test_the_sdist_holds_what_is_needed_to_test_it(packed: Path) -> None:
    with tarfile.open(next(packed.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = {str(file.relative_to(HOME)) for file in FILES}
    wanted |= {f"scenarios/{file.name}" for file in (HOME / "scenarios").glob("*.yaml")}
    wanted |= {str(file.relative_to(HOME)) for file in (HOME / "tests").rglob("*.py")}
    wanted |= {"LICENSE", "README.md", "pyproject.toml"}
    assert wanted <= names
    tops = {name.partition("/")[0] for name in names} - {"PKG-INFO", ".gitignore", ""}
    assert tops <= {path.name for path in HOME.iterdir() if not path.name.startswith(".")}
    assert not {name for name in names if "__pycache__" in name}
