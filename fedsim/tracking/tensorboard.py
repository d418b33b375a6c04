"""Event files for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fedsim.errors import InputError
from fedsim.tracking.scalars import Scalar
from fedsim.tracking.tracker import Tracker


class TensorBoard(Tracker):
    """A folder of event files.

    Args:
        folder: to be made.

    Raises:
        InputError: if tensorboard is not installed, or the folder exists: a second copy of the
            same points would show as a curve that runs back.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError(
                "tensorboard is not installed: pip install 'fedsim-medical[tensorboard]'"
            ) from error
        if folder.exists():
            raise InputError(f"{folder}: exists; remove it, or name another folder with --out")
        self._folder = folder
        self._writer = SummaryWriter(str(folder))

    @property
    def place(self) -> str:
        """The folder to which `tensorboard --logdir` is pointed."""
        return str(self._folder)

    def log(self, values: Iterable[Scalar]) -> None:
        """See `Tracker.log`."""
        for round, name, value in values:
            self._writer.add_scalar(name, value, round)
        self._writer.flush()

    def close(self, finished: bool) -> None:
        """See `Tracker.close`."""
        self._writer.close()
