from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedsim.errors import ScenarioError
from fedsim.scenario import Scenario, load_scenario

VALID = """\
version: 1
name: study
rounds: 4
data:
  source: {kind: synthetic, anatomy: fundus, image_size: 16, num_examples: 200}
  task: binary
  label_map: {0: 0, 1: 0, 2: 1, 3: 1, 4: 1}
  normalisation: {kind: standard, mean: [0.5]}
population:
  num_sites: 3
  partition: {kind: dirichlet, alpha: 1.0}
  held_out: {validation: 0.2, test: 0.2}
model: {kind: small_cnn, widths: [8, 16]}
client:
  epochs: 1
  batch_size: 16
  optimizer: {kind: sgd, learning_rate: 0.1}
strategy: {kind: principal_gradient, keep: 0.8}
evaluation:
  metrics: [auroc, loss]
"""


class Author:
    """Writes scenarios with mistakes in them and reads what is said about them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "study.yaml"

    def load(self, old: str = "", new: str = "", *, changes: tuple[str, ...] = ()) -> Scenario:
        """Load the valid scenario with one piece of its text replaced and some --set changes."""
        assert old in VALID
        return self.load_text(VALID.replace(old, new, 1), changes=changes)

    def load_text(self, text: str | bytes, *, changes: tuple[str, ...] = ()) -> Scenario:
        """Load this text."""
        self.path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_scenario(self.path, changes)

    def error(self, load: Callable[[], Scenario]) -> str:
        """Return the message of the error, with the file called FILE."""
        with pytest.raises(ScenarioError) as caught:
            load()
        return str(caught.value).replace(str(self.path), "FILE")

    def complaint(self, old: str = "", new: str = "", *, changes: tuple[str, ...] = ()) -> str:
        """Return what is said of the valid scenario with a mistake in it."""
        return self.error(lambda: self.load(old, new, changes=changes))

    def complaint_about(self, text: str | bytes) -> str:
        """Return what is said of this text."""
        return self.error(lambda: self.load_text(text))


@pytest.fixture
def author(tmp_path: Path) -> Author:
    return Author(tmp_path)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSIM_CACHE_DIR", str(tmp_path / "cache"))
