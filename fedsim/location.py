"""Where files of the user's lie: relative to the scenario that names them, wherever it is run from.

A location says where something is, not what it is: two people with the same files at different
places have the same study. So a scenario's digest keeps the last part of the path alone, and a
run's record has the checksums of what was found there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, SerializationInfo, ValidationInfo

FOLDER, DIGEST = "folder", "digest"
"""Keys of pydantic's context: the folder that paths are relative to; whether a digest is made."""


def _absolute(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get(FOLDER, ".")
    try:
        path = path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"the folder of this user is not known: {path}") from error
    return Path(os.path.abspath(Path(base) / path))  # noqa: PTH100 (keeps links)


def _written(path: Path, info: SerializationInfo) -> str:
    return path.name if (info.context or {}).get(DIGEST) else str(path)


Location = Annotated[Path, AfterValidator(_absolute), PlainSerializer(_written, return_type=str)]
"""The path of a file or folder in a scenario, absolute once it is validated."""
