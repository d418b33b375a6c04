"""What the Tab key offers where an argument is a name and no file."""

from __future__ import annotations


def names(incomplete: str) -> list[str]:
    """Return the sections, families, kinds and metrics that `fedsim list` takes."""
    from fedsim.cli.catalogue import known

    return _beginning(known(), incomplete)


def sets(incomplete: str) -> list[str]:
    """Return the data sets that `fedsim data fetch` takes."""
    from fedsim.data.medmnist_registry import REGISTRY

    return _beginning(list(REGISTRY), incomplete)


def data(incomplete: str) -> list[str]:
    """Return the words that `fedsim init` takes; with none of them, shells offer files."""
    return _beginning(["synthetic"], incomplete) + sets(incomplete) if incomplete else []


def _beginning(words: list[str], incomplete: str) -> list[str]:
    return sorted({word for word in words if word.startswith(incomplete)})
