"""Getting a file from the network, with a bar in a terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def download(url: str, md5: str, path: Path) -> Path:
    """Download a file, verify it, and return where it is.

    Args:
        url: of the file.
        md5: that it must have.
        path: where to put it.

    Raises:
        OSError: if it cannot be had.
        ValueError: if it has another md5; nothing is left of it then.
    """
    import pooch

    shown: dict[str, Any] = {}
    if sys.stderr.isatty():
        shown["downloader"] = pooch.HTTPDownloader(progressbar=_Bar(path.name))
    return Path(pooch.retrieve(url, f"md5:{md5}", fname=path.name, path=path.parent, **shown))


class _Bar:
    """What pooch tells about the bytes that came, shown by rich."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

        self.total = 0
        self._progress = Progress(
            BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=Console(stderr=True)
        )
        self._task = self._progress.add_task(name, total=None)
        self._progress.start()

    def update(self, num_bytes: int) -> None:
        """Count bytes that came."""
        self._progress.update(self._task, advance=num_bytes, total=self.total or None)

    def reset(self) -> None:
        """Start to count anew."""
        self._progress.reset(self._task)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._progress.stop()
