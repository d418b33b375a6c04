"""What tests of Flower's side share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from fedsim.engines.inline import flower_identity


@pytest.fixture
def identity() -> Iterator[None]:
    """Let messages be made, and keep Flower's log off the screen."""
    log = logging.getLogger("flwr")
    level = log.level
    log.setLevel(logging.ERROR)
    with flower_identity():
        yield
    log.setLevel(level)
