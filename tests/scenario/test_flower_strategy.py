"""The list of Flower's strategies is that of the installed Flower."""

from __future__ import annotations

import fedsim.flower  # noqa: F401  (before flwr: it switches telemetry off)
from fedsim.scenario.flower_strategy import UNSUITED, USABLE


def test_every_strategy_of_flower_is_usable_or_known_not_to_be() -> None:
    from flwr.serverapp import strategy

    kin = {
        name
        for name in strategy.__all__
        if isinstance(found := getattr(strategy, name), type) and issubclass(found, strategy.FedAvg)
    }
    assert sorted(kin - UNSUITED.keys()) == list(USABLE)
    assert kin >= UNSUITED.keys()
