"""The sites are formed as the scenario says: appearance, normalisation, shares, labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedsim.data.scanner import Scanner
from fedsim.scenario import Scenario, open_population
from fedsim.seeds import Streams

SOURCE = {"kind": "synthetic", "anatomy": "chest", "image_size": 16, "num_examples": 120}


def test_normalisation_and_appearance_are_applied(tiny: Callable[..., Scenario]) -> None:
    plain = open_population(tiny())
    standard = {"kind": "standard", "mean": [0.25], "std": [0.5]}
    normalised = open_population(
        tiny(data={"source": SOURCE, "task": "binary", "normalisation": standard})
    )
    sites = {"num_sites": 3, "partition": {"kind": "dirichlet", "alpha": 1.0}}
    shifted = open_population(
        tiny(population={**sites, "appearance": {"kind": "scanner", "severity": "severe"}})
    )
    for site in range(3):
        before = plain.examples(site, "train").images
        np.testing.assert_allclose(
            normalised.examples(site, "train").images, (before - 0.25) / 0.5, atol=1e-6
        )
        raw = np.round(before * 255).astype(np.uint8)
        expected = Scanner(severity="severe").apply(
            raw, site, plain.names[site], plain.indices[site]["train"], Streams(3)
        )
        np.testing.assert_allclose(
            shifted.examples(site, "train").images, expected / 255, atol=1e-6
        )
        name = shifted.names[site]
        look = Scanner(severity="severe").describe(site, name, Streams(3))
        assert shifted.looks[name] == look
