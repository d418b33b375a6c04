import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def oracles() -> Path:
    """The folder of outputs of the published principal-gradient code."""
    data = os.environ.get("FEDSIM_DATA_DIR")
    if not data:
        pytest.skip("FEDSIM_DATA_DIR is not set; outputs of the published code lie beside it")
    folder = Path(data).parent / "oracles" / "fedld"
    if not folder.is_dir():
        pytest.skip(f"no outputs of the published code in {folder}")
    return folder
