"""A package of somebody else's, installed beside fedsim, brings parts that scenarios can use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parent.parent
PACKAGE = HOME / "tests" / "plugin_package"


def called(python: Path | str, *arguments: str | Path, folder: Path) -> str:
    """Return what a Python without our path prints."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of a new environment in which the package is installed.

    No network: the environment sees what is installed here through a .pth file, so pip has nothing
    to fetch, and builds with the hatchling that is here.
    """
    for needed in ("pip", "hatchling"):
        if find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed, so the package cannot be")
    folder = tmp_path_factory.mktemp("plugin")
    called(sys.executable, "-m", "venv", "--without-pip", folder / "venv", folder=folder)
    there = folder / "venv" / "bin" / "python"
    own = called(
        there, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder
    )
    lines = f"{HOME}\n{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n"
    Path(own.strip(), "here.pth").write_text(lines, encoding="utf-8")
    shutil.copytree(PACKAGE, folder / "package", ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--quiet"]
    called(there, "-m", "pip", "install", *options, folder / "package", folder=folder)
    return there


@pytest.mark.slow
def test_its_parts_are_listed_with_their_keys(python: Path, tmp_path: Path) -> None:
    for kind, key in (("clipped_mean", "max_norm"), ("focal", "gamma"), ("phantoms", "image_size")):
        assert key in called(python, "-m", "fedsim", "list", kind, folder=tmp_path)
    schema = json.loads(called(python, "-m", "fedsim", "schema", folder=tmp_path))
    assert {"ClippedMean", "Focal", "Phantoms"} <= set(schema["$defs"])


@pytest.mark.slow
def test_its_parts_run_and_are_cited(python: Path, tmp_path: Path) -> None:
    scenario = PACKAGE / "scenario.yaml"
    options = ["--out", tmp_path, "--run-name", "mine", "--quiet", "--device", "cpu"]
    called(python, "-m", "fedsim", "run", scenario, *options, folder=tmp_path)
    assert (tmp_path / "mine" / "report" / "index.html").is_file()
    cited = called(python, "-m", "fedsim", "cite", tmp_path / "mine", folder=tmp_path)
    assert "sun2019can" in cited
    assert "lin2017focal" in cited


@pytest.mark.slow
def test_its_own_tests_pass(python: Path, tmp_path: Path) -> None:
    shutil.copy(PACKAGE / "test_my_parts.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    assert "5 passed" in called(python, "-m", "pytest", "-q", folder=tmp_path)


@pytest.mark.slow
def test_without_the_package_there_is_no_such_part(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fedsim", "list", "clipped_mean"],
        env={**os.environ, "PYTHONPATH": str(HOME)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
