"""What sites keep from one of their rounds to the next: files that never leave a site.

One file for each site and round that counted, `site-<n>/round-<r>.safetensors`. The server knows
in which rounds a site's training counted and says with every message which file is the present one,
so that a training that was repeated, after a crash, or whose update was lost finds what it found
before; files that no checkpoint can lead back to are removed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from fedsim.errors import RunError
from fedsim.records import checkpoint
from fedsim.records.files import writing

Memory = Mapping[str, Mapping[str, Tensor]]
"""What a site keeps: who keeps it -> name -> tensor, on the CPU."""


class ClientMemory:
    """The memory of sites in one folder.

    Args:
        folder: made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def recall(self, site: int, rounds: Sequence[int]) -> Memory:
        """Return what a site kept in the last of these rounds; nothing if there are none.

        Raises:
            RunError: if it is gone.
        """
        if not rounds:
            return {}
        path = self._path(site, rounds[-1])
        if not path.exists():
            raise RunError(
                f"{path}: what the site kept in round {rounds[-1]} is gone, so the run cannot go "
                "on from here; remove its checkpoints to let it begin anew, or start another run"
            )
        return checkpoint.load(path)

    def keep(self, site: int, round: int, memory: Memory, still_needed: Collection[int]) -> None:
        """Keep what a site made in a round, and let go of what nobody needs.

        Args:
            site: whose.
            round: in which it counts.
            memory: what is kept.
            still_needed: earlier rounds whose memory may be asked for.

        Raises:
            RunError: if it cannot be written.
        """
        path = self._path(site, round)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {whose: dict(tensors) for whose, tensors in memory.items()}
        checkpoint.save(path, state)
        needed = {self._path(site, other) for other in {*still_needed, round}}
        for other in path.parent.iterdir():
            if other not in needed:
                other.unlink()

    def _path(self, site: int, round: int) -> Path:
        return checkpoint.path_of(self._folder, round, f"site-{site:05d}")


def at(folder: Path | None) -> ClientMemory | None:
    """Return the memory in a folder, if there is one."""
    return None if folder is None else ClientMemory(folder)
