"""How long a browser takes for a page."""

from __future__ import annotations

import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.report.pages.browser.conftest import Browser, find

NUM_OPENED = 3


def opened(page: Path) -> dict[str, Any]:
    """Return the seconds until a page is loaded and painted, and what its console says.

    The median of three in a headless Chromium; nothing where there is none.
    """
    program = find()
    if program is None:
        return {}
    seconds, said = [], list[str]()
    with closing(Browser(program)) as browser:
        for _ in range(NUM_OPENED):
            begin = time.monotonic()
            browser.open(page)
            seconds.append(time.monotonic() - begin)
            said += browser.said
    return {"open_s": round(statistics.median(seconds), 2), "console": said}
