"""Two yardsticks for a federation: pooled training, and each site alone.

Both start from the run's initial model and train as often as a site does in the run, rounds times
local epochs (or steps), with the same local objective, optimiser and schedule. They are plain
training: the optimiser lives from the first round to the last, and no site attacks. No hospital
could do the first, as no image would leave it; any could do the second without the others. Where
sites train with clipped gradients and noise, the second does as well, with noise for the same
price: it is what a site could release in place of its part in the federation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from clients.batch import Batch, joined
from clients.metrics import METRICS
from fedsim.data.aggregates import Aggregates
from fedsim.data.source import HELD_OUT, POOLED, Split
from fedsim.flower import private_training
from fedsim.flower.predictions import everywhere
from fedsim.flower.scoring import Predictions, revealed, score, values
from fedsim.flower.unshrinking import UNSHRUNK
from fedsim.flower.workplace import Workplace
from fedsim.privacy.dp_sgd import Steps
from fedsim.records import RunFolder
from fedsim.scenario import Scenario
from fedsim.scenario.privacy import trains_alone_privately

Kind = Literal["pooled", "local"]
MODELS = ("final", "best")
Truth = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Training:
    """One plain training: of a site, or of all sites together (or of what they all draw from).

    Args:
        kind: which yardstick it belongs to.
        name: of the site, or `fedsim.data.source.POOLED`.
        holders: whose examples it trains on and chooses its best round by.
        keys: of its random streams.
    """

    kind: Kind
    name: str
    holders: tuple[int, ...]
    keys: Mapping[str, int]

    @property
    def title(self) -> str:
        """What is going on, for people."""
        return "training on all images" if self.kind == "pooled" else f"training {self.name} alone"


def trainings(workplace: Workplace) -> list[Training]:
    """Return the trainings that the scenario asks for."""
    population = workplace.population
    wanted: list[Training] = []
    if "pooled" in workplace.scenario.baselines:
        wanted.append(Training("pooled", POOLED, tuple(population.holders), {}))
    if "local" in workplace.scenario.baselines:
        wanted += [
            Training("local", name, (s,), {"site": s}) for s, name in enumerate(population.names)
        ]
    return wanted


def run(
    workplace: Workplace,
    truth: Truth,
    folder: RunFolder,
    watch: Callable[[str, int], None],
) -> None:
    """Do the trainings that are not recorded yet.

    Args:
        workplace: of the run.
        truth: the labels of test images whose sites do not know them, by site.
        folder: where predictions of the final and the best round are recorded.
        watch: called after every round with the name of the training and the round.
    """
    for number, training in enumerate(trainings(workplace)):
        if not folder.has_baseline(number):
            folder.save_baseline(number, _train(workplace, truth, training, watch))


def _train(
    workplace: Workplace, truth: Truth, training: Training, watch: Callable[[str, int], None]
) -> dict[str, Any]:
    """Return which rounds are final and best and what their models predict.

    Where the selecting metric is never defined, as at a site whose validation images are all of one
    class, the best round is the final one.
    """
    scenario, network = workplace.scenario, workplace.network
    network.load(network.initial)
    examples = together(workplace, training.holders, "train")
    optimizer, steps = workplace.optimizer(1), _private_steps(workplace, training)
    best, best_round, best_value = network.initial, 0, -torch.inf
    for round in range(scenario.rounds + 1):
        if round:
            for group in optimizer.param_groups:
                group["lr"] = workplace.learning_rate(round)
            if steps is None:
                plan = scenario.client.plan
                workplace.fit(examples, round, optimizer, plan, None, **training.keys)
            else:
                (site,) = training.holders
                private_training.train(workplace, examples, round, optimizer, steps, site, "alone")
        if round % scenario.evaluation.every == 0 or round == scenario.rounds:
            value = _selecting(workplace, training.holders)
            if value > best_value:
                best, best_round, best_value = network.snapshot(), round, value
        watch(training.title, round)
    final = network.snapshot()
    if best_value == -torch.inf:
        best, best_round = final, scenario.rounds
    return {
        "kind": training.kind,
        "name": training.name,
        "rounds": {"final": scenario.rounds, "best": best_round},
        "predictions": {
            model: revealed(everywhere(workplace, state), truth)
            for model, state in zip(MODELS, (final, best), strict=True)
        },
    }


def _private_steps(workplace: Workplace, training: Training) -> Steps | None:
    """Return the private steps of a site alone in a round, None where it trains plainly."""
    scenario = workplace.scenario
    if training.kind != "local" or not trains_alone_privately(scenario):
        return None
    from fedsim.flower.private_rounds import PrivateRounds

    (site,) = training.holders
    steps = PrivateRounds.of(scenario, workplace.population).alone(site)
    assert isinstance(steps, Steps)
    return steps


def together(workplace: Workplace, holders: tuple[int, ...], split: Split) -> Batch:
    """Return the examples of some holders, in their order."""
    parts = [workplace.examples(holder, split) for holder in holders]
    if len(parts) == 1:
        return parts[0]
    return joined(parts, len(workplace.population.class_names))


def _selecting(workplace: Workplace, holders: tuple[int, ...]) -> float:
    """Return the selecting metric on validation images, higher is better, -inf if undefined."""
    scenario, network = workplace.scenario, workplace.network
    name, examples = scenario.evaluation.select_by, together(workplace, holders, "validation")
    if not len(examples):
        return -torch.inf
    (scores,) = network.predict(network.snapshot(), examples)
    bags = None
    if examples.bags is not None:
        responses = scenario.data.predicted.original(examples.bags.responses)
        bags = Aggregates(examples.bags.of_example.cpu().numpy(), responses.cpu().numpy())
    labels = np.concatenate([workplace.population.truth(h, "validation") for h in holders])
    value = values(scenario, (name,), scores.cpu().numpy(), labels, bags)[name].value
    if value is None:
        return -torch.inf
    return value if METRICS[name].higher_is_better else -value


def methods(recorded: list[dict[str, Any]]) -> dict[tuple[str, str], Predictions]:
    """Return for each yardstick and model what it says of the images, site by site.

    For `local` the images of a site are judged by the model that this site trained alone;
    external sets, which belong to no site, are left out.

    Args:
        recorded: what `run` saved.
    """
    found: dict[tuple[str, str], Predictions] = {}
    for model in MODELS:
        for part in recorded:
            predictions = part["predictions"][model]
            if part["kind"] == "pooled":
                found["pooled", model] = predictions
                continue
            own: Any = found.setdefault(("local", model), {split: {} for split in HELD_OUT})
            for split in HELD_OUT:
                own[split][part["name"]] = predictions[split][part["name"]]
    return found


def rows_of_unshrunk(
    scenario: Scenario, found: Mapping[str, Predictions], rounds: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Return the rows of the run's own predictions, unshrunk.

    Args:
        scenario: of the run.
        found: model -> predictions.
        rounds: model -> its round.
    """
    return [
        {
            "baseline": UNSHRUNK,
            "model": model,
            "trained_at": POOLED,
            **row,
            "round": rounds[model],
        }
        for model, predictions in found.items()
        for row in score(scenario, rounds[model], predictions)
    ]


def scores(scenario: Scenario, recorded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of `baselines.jsonl`, but for those of the run's own predictions.

    Args:
        scenario: of the run.
        recorded: what `run` saved.
    """
    rows = [
        {"baseline": kind, "model": model, "trained_at": trained_at, **row}
        for (kind, model), predictions in methods(recorded).items()
        for row in score(scenario, scenario.rounds, predictions)
        for trained_at in [POOLED if POOLED in (kind, row["site"]) else row["site"]]
    ]
    abroad = [
        {"baseline": "local", "model": "final", "trained_at": part["name"], **row}
        for part in recorded
        if part["kind"] == "local"
        for row in score(scenario, scenario.rounds, _elsewhere(part))
        if row["site"] != POOLED
    ]
    rounds = {(part["kind"], part["name"]): part["rounds"] for part in recorded}
    for row in [*rows, *abroad]:
        chosen = rounds.get((row["baseline"], row["trained_at"]))
        row["round"] = chosen[row["model"]] if chosen else None
    return [*rows, *abroad]


def _elsewhere(part: dict[str, Any]) -> Predictions:
    """Return what a site's final model says of test images that are not the site's own."""
    predictions = part["predictions"]["final"]
    others = {name: p for name, p in predictions["test"].items() if name != part["name"]}
    found = {"test": others, "external": predictions.get("external", {})}
    return {split: by_site for split, by_site in found.items() if by_site}
