"""The Tab key: what the shells are told, by the protocol that they speak with the program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[2]
PROGRAM = "import sys; sys.argv[0] = 'fedsim'; from fedsim.cli import main; main()"


def told(shell: str, folder: Path, **environment: str) -> str:
    found = {"_FEDSIM_COMPLETE": shell, "PYTHONPATH": str(HOME), **environment}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        env={**os.environ, **found},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("line", "offered", "withheld"),
    [
        ("fedsim ", {"init", "run", "study", "track"}, {"help"}),
        ("fedsim data ", {"list", "fetch", "preview", "unpack"}, {"run"}),
        ("fedsim list prin", {"principal_gradient"}, {"krum"}),
        ("fedsim list ", {"strategies", "client", "dirichlet", "auroc"}, set()),
        ("fedsim data fetch pneu", {"pneumoniamnist"}, {"retinamnist"}),
        ("fedsim init syn", {"synthetic"}, {"pneumoniamnist"}),
        ("fedsim init ./", set(), {"synthetic"}),
        ("fedsim track runs/x --to ", {"tensorboard", "mlflow"}, set()),
        ("fedsim run x.yaml --wor", {"--workers"}, {"--device"}),
    ],
)
def test_bash_is_offered_what_fits(
    line: str, offered: set[str], withheld: set[str], tmp_path: Path
) -> None:
    position = str(len(line.split(" ")) - 1)
    found = told("complete_bash", tmp_path, COMP_WORDS=line, COMP_CWORD=position).split()
    assert offered <= set(found)
    assert not withheld & set(found)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell: str, tmp_path: Path) -> None:
    script = told(f"source_{shell}", tmp_path)
    assert "fedsim" in script
    assert f"complete_{shell}" in script
