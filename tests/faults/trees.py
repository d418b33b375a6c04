"""What must repeat of a run folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

DIFFER = {"environment.jsonl", "timing.jsonl", "log.txt", ".lock"}
"""Files that say when and where, and so differ from run to run."""


def tree(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that must repeat."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in DIFFER
    }
