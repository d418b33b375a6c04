"""What must hold of regularisers and personal models; see `fedsim.scenario.rules`."""

from __future__ import annotations

from collections.abc import Iterator

from clients.optimizer import Sgd
from clients.regularisers import ControlVariates, Dynamic
from fedsim.data.resampled import Resampled
from fedsim.fleet.round_policy import BufferedAsync
from fedsim.scenario.flower_strategy import FlowerStrategy
from fedsim.scenario.messages import Problem
from fedsim.scenario.scenario import Scenario
from fedsim.scenario.strategy_rules import every_step_counts
from strategies import FedDyn, Scaffold

PAIRS = (("control_variates", ControlVariates, Scaffold), ("dynamic", Dynamic, FedDyn))
"""Methods whose halves are nothing without each other."""


def broken(scenario: Scenario) -> Iterator[Problem]:
    """Yield the rules that a scenario's regulariser and personalisation break."""
    yield from _halves(scenario)
    yield from _records(scenario)
    yield from _exact(scenario)
    yield from _asked_twice(scenario)
    yield from _personal(scenario)


def _halves(scenario: Scenario) -> Iterator[Problem]:
    regulariser, strategy = scenario.client.regulariser, scenario.strategy
    for name, Client, Server in PAIRS:
        kind = Server.model_fields["kind"].default
        here, there = isinstance(regulariser, Client), isinstance(strategy, Server)
        if here and not there:
            yield Problem(
                ("client", "regulariser"),
                f"{name} is half of a method: give strategy: {{kind: {kind}}} too",
            )
        elif there and not here:
            yield Problem(
                ("strategy",),
                f"{kind} is half of a method: give client.regulariser: {{kind: {name}}} too",
            )
        elif here and isinstance(scenario.round_policy, BufferedAsync):
            yield Problem(
                ("round_policy",),
                f"{kind} is for rounds whose sites all start from the same model, and with "
                "buffered_async they do not: use another round policy",
            )
    if (
        isinstance(regulariser, Dynamic)
        and isinstance(strategy, FedDyn)
        and regulariser.alpha != strategy.alpha
    ):
        yield Problem(
            ("strategy", "alpha"),
            f"is {strategy.alpha:g}, but the sites' is {regulariser.alpha:g}: give both the same",
        )


def _records(scenario: Scenario) -> Iterator[Problem]:
    """What travels beside the model must be known on both sides."""
    regulariser, strategy = scenario.client.regulariser, scenario.strategy
    if isinstance(regulariser, ControlVariates) or isinstance(strategy, Scaffold):
        return  # told as halves of a method
    down = () if isinstance(strategy, FlowerStrategy) else strategy.broadcasts
    up = () if isinstance(strategy, FlowerStrategy) else strategy.collects
    wanted, sent = (regulariser.receives, regulariser.sends) if regulariser else ((), ())
    if missing := sorted({*wanted} - {*down}):
        yield Problem(
            ("client", "regulariser"),
            f"needs {', '.join(missing)} from the server, which strategy {strategy.kind} does not "
            "broadcast",
        )
    if {*sent} != {*up}:
        yield Problem(
            ("client", "regulariser"),
            f"sites send {', '.join(sent) or 'nothing'} beside their model, strategy "
            f"{strategy.kind} collects {', '.join(up) or 'nothing'}",
        )


def _exact(scenario: Scenario) -> Iterator[Problem]:
    """Control variates are means of gradients after plain steps of stochastic gradient descent."""
    client = scenario.client
    if not isinstance(client.regulariser, ControlVariates):
        return
    if not isinstance(client.optimizer, Sgd):
        yield Problem(
            ("client", "optimizer"),
            f"control_variates reads gradients off the steps, which those of "
            f"{client.optimizer.kind} do not show: use sgd",
        )
    elif client.optimizer.momentum:
        yield Problem(
            ("client", "optimizer", "momentum"),
            "control_variates reads gradients off the steps, which momentum mixes: set it to 0 "
            "(the server may have momentum: server_optimizer)",
        )
    yield from every_step_counts(scenario, "control_variates")


def _asked_twice(scenario: Scenario) -> Iterator[Problem]:
    strategy = scenario.strategy
    if (
        scenario.client.regulariser is not None
        and isinstance(strategy, FlowerStrategy)
        and strategy.options.get("proximal_mu")
    ):
        yield Problem(
            ("client", "regulariser"),
            f"Flower's {strategy.name} asks for a proximal term of its own: leave this out, or "
            "give strategy: {kind: weighted_mean} and client.regulariser: {kind: proximal}",
        )


def _personal(scenario: Scenario) -> Iterator[Problem]:
    """What is judged by a global model needs one, and personal models need test images."""
    personalisation = scenario.client.personalisation
    if personalisation is None:
        return
    if isinstance(scenario.population.partition, Resampled):
        yield Problem(
            ("client", "personalisation"),
            "sites of the partition resampled have no test examples, so nobody would see their "
            "models: leave it out, or choose a partition that divides the examples",
        )
    if not personalisation.keeps_parameters:
        return
    whole = f"{personalisation.kind} leaves the server without a whole model"
    if scenario.evaluation.external:
        yield Problem(
            ("evaluation", "external"), f"is for the global model, and {whole}: leave it out"
        )
    if scenario.population.holdout_sites:
        yield Problem(
            ("population", "holdout_sites"),
            f"are judged by the global model, and {whole}: leave them out",
        )
    if scenario.evaluation.loss_decomposition:
        yield Problem(
            ("evaluation", "loss_decomposition"),
            f"looks at the global model, and {whole}: set it to false",
        )
