"""Getting a file from the network: over TLS, from the host that was named, no larger than known."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

TIMEOUT_S = 30.0
"""Seconds without a sign from the other side."""
CHUNK = 1 << 16
"""Bytes written at once."""
Watch = Callable[[int, int], None]
"""Called with the bytes that came and with all of them, 0 if that is not known."""


def download(url: str, md5: str, path: Path, max_bytes: int) -> Path:
    """Download a file, verify it, and return where it is.

    What comes is written under another name; the file's own name appears once it is whole.

    Args:
        url: of the file; begins with https.
        md5: that it must have.
        path: where to put it.
        max_bytes: that it may have at most.

    Raises:
        OSError: if it cannot be had.
        ValueError: if the address is not one of https or leads to another host, or if the file is
            too large or has another md5; nothing is left of it then.
    """
    import pooch

    if urlsplit(url).scheme != "https":
        raise ValueError(f"expected an address that begins with https, got {url}")
    with _watching(path.name) as watch:
        fetch = partial(_fetch, max_bytes, watch)
        return Path(
            pooch.retrieve(url, f"md5:{md5}", fname=path.name, path=path.parent, downloader=fetch)
        )


def _fetch(max_bytes: int, watch: Watch, url: str, target: str, _: object) -> None:
    """Write what an address gives into a file."""
    import requests

    with (
        requests.get(
            url,
            stream=True,
            timeout=TIMEOUT_S,
            headers={"Accept-Encoding": "identity"},
            hooks={"response": partial(_refuse_elsewhere, urlsplit(url).hostname)},
        ) as response,
        Path(target).open("wb") as file,
    ):
        response.raise_for_status()
        total, done = int(response.headers.get("content-length", 0)), 0
        for chunk in response.iter_content(CHUNK):
            done += len(chunk)
            if max(done, total) > max_bytes:
                raise ValueError(f"{url} gives more than the {max_bytes:,} bytes of the file")
            file.write(chunk)
            watch(done, total)


def _refuse_elsewhere(host: str | None, response: Any, **_: Any) -> None:
    """Refuse to follow an answer that sends us to another host, or off TLS."""
    if response.is_redirect:
        there = urljoin(response.url, response.headers["location"])
        parts = urlsplit(there)
        if parts.scheme != "https" or parts.hostname != host:
            raise ValueError(f"{response.url} sends us on to {there}, which is not followed")


@contextmanager
def _watching(name: str) -> Iterator[Watch]:
    """Yield what shows in a terminal how much came."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
