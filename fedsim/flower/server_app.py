"""The round loop: who takes part, what comes back, what is recorded.

Round 0 is the evaluation of the initial model. Replies are put in site order before anything reads
them, so that neither node ids nor arrival order can change a bit.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from torch import Tensor

from fedsim.data.source import POOLED
from fedsim.errors import DivergedError, RunError
from fedsim.flower import wire
from fedsim.flower.cohort_grid import CohortGrid
from fedsim.flower.loss_decomposition import LossDecomposition
from fedsim.flower.scoring import score
from fedsim.flower.strategy import restore, rounded_like, snapshot
from fedsim.records import RunFolder
from fedsim.records.read import Predicted
from fedsim.scenario import Scenario
from fedsim.seeds import Streams

log = logging.getLogger("fedsim")


@dataclass(frozen=True)
class Progress:
    """What a watcher of the run is told after every round.

    Args:
        round: the round that is done, 0 for the initial evaluation.
        num_rounds: of the scenario.
        train_loss: mean local objective, None without a cohort or in round 0.
        metric: name of the selecting metric.
        evaluated: whether the model was evaluated in this round.
        value: the metric on pooled validation images, None if undefined or not evaluated.
        stage: what is going on, if it is not a round of the federation.
    """

    round: int
    num_rounds: int
    train_loss: float | None
    metric: str
    evaluated: bool
    value: float | None
    stage: str = ""


Model = dict[str, Tensor]
Watcher = Callable[[Progress], None]


class Server:
    """The server of one run.

    Args:
        scenario: what to do.
        names: of the sites.
        strategy: a Flower strategy.
        decomposition: the loss decomposition, if it is measured.
        external: function of a model -> its predictions on each external set.
        folder: where everything is recorded.
        grid: reaches the sites.
    """

    def __init__(
        self,
        scenario: Scenario,
        names: tuple[str, ...],
        strategy: Strategy,
        decomposition: LossDecomposition | None,
        external: Callable[[Model], Mapping[str, Predicted]],
        folder: RunFolder,
        grid: Grid,
    ) -> None:
        self.scenario = scenario
        self.names = names
        self.strategy = strategy
        self.decomposition = decomposition
        self.external = external
        self.folder = folder
        self.grid = grid
        self.streams = Streams(scenario.seed)
        self.nodes = find_sites(grid)
        self._sites = {node: site for site, node in self.nodes.items()}

    def run(self, initial: Model, watch: Watcher) -> Model:
        """Run from the last checkpoint, or from the initial model, to the last round.

        Args:
            initial: the initial global model.
            watch: called after every round.

        Returns:
            The final global model.
        """
        model, first = initial, 0
        if saved := self.folder.last_checkpoint():
            last, state = saved
            model, first = state["model"], last + 1
            restore(self.strategy, state["strategy"])
        for round in range(first, self.scenario.rounds + 1):
            start = time.perf_counter()
            train_loss = value = None
            if round:
                model, train_loss = self._round(round, model)
            if self._is_evaluated(round):
                value = self._evaluate(round, model)
            self.folder.save_checkpoint(
                round, {"model": model, "strategy": snapshot(self.strategy)}
            )
            self.folder.timed({"round": round, "seconds": time.perf_counter() - start})
            watch(
                Progress(
                    round,
                    self.scenario.rounds,
                    train_loss,
                    self.scenario.evaluation.select_by,
                    self._is_evaluated(round),
                    value,
                )
            )
        return model

    def _is_evaluated(self, round: int) -> bool:
        return round % self.scenario.evaluation.every == 0 or round == self.scenario.rounds

    def _round(self, round: int, model: Model) -> tuple[Model, float | None]:
        cohort = self.scenario.cohort.draw(
            len(self.nodes), self.streams.numpy("cohort", round=round)
        )
        messages = list(self._configure(round, model, cohort)) if cohort else []
        replies, failed = self._exchange(messages)
        if failed:
            self._refuse_or_note(round, failed)
        losses = {site: _metric(reply, wire.TRAIN_LOSS) for site, reply in replies.items()}
        sizes = {site: int(_metric(reply, wire.NUM_EXAMPLES)) for site, reply in replies.items()}
        bytes_up = sum(map(wire.num_bytes, replies.values()))  # a strategy may empty the replies
        lens = self.decomposition if self._is_evaluated(round) else None
        local = {site: wire.read_model(r) for site, r in replies.items()} if lens else {}
        after = self._aggregate(round, model, replies) if replies else model
        train_loss = _mean(losses, sizes) if replies else None
        terms = _finite(lens.measure(local, after)) if lens and local else None
        self.folder.add_round(
            {
                "round": round,
                "cohort": [self.names[site] for site in replies],
                "dropped": [self.names[site] for site in failed],
                "train_loss": _number(train_loss),
                "site_train_loss": {self.names[s]: _number(v) for s, v in losses.items()},
                "num_examples": {self.names[s]: n for s, n in sizes.items()},
                "bytes_down": sum(map(wire.num_bytes, messages)),
                "bytes_up": bytes_up,
                "loss_decomposition": terms,
            }
        )
        return after, train_loss

    def _configure(self, round: int, model: Model, cohort: list[int]) -> Iterable[Message]:
        nodes = [self.nodes[site] for site in cohort]
        return self.strategy.configure_train(
            round, wire.to_arrays(model), ConfigRecord(), CohortGrid(self.grid, nodes)
        )

    def _exchange(self, messages: list[Message]) -> tuple[dict[int, Message], dict[int, str]]:
        """Send messages and return replies, and reasons of failures, by site, in site order."""
        ordered = sorted(messages, key=lambda m: self._sites[m.metadata.dst_node_id])
        replies = {
            self._sites[reply.metadata.src_node_id]: reply
            for reply in self.grid.send_and_receive(ordered)
        }
        if len(replies) != len(ordered):
            missing = {self._sites[m.metadata.dst_node_id] for m in ordered} - set(replies)
            raise RunError(f"no reply from {', '.join(self.names[s] for s in sorted(missing))}")
        ordered_replies = dict(sorted(replies.items()))
        failed = {s: str(r.error.reason) for s, r in ordered_replies.items() if r.has_error()}
        return {s: r for s, r in ordered_replies.items() if s not in failed}, failed

    def _refuse_or_note(self, round: int, failed: Mapping[int, str]) -> None:
        """Stop the run over sites that failed to train, or go on without them, as it says.

        Raises:
            RunError: unless the scenario drops them.
        """
        told = "; ".join(
            f"{self.names[site]} failed to train: {why}" for site, why in failed.items()
        )
        if self.scenario.on_client_failure == "abort":
            raise RunError(f"round {round}: {told}")
        log.warning("round %d: %s; the round goes on without", round, told)

    def _check_finite(self, round: int, replies: Mapping[int, Message]) -> None:
        """Stop where training diverged: nothing that follows would mean anything."""
        diverged = [
            self.names[site]
            for site, reply in replies.items()
            if not math.isfinite(_metric(reply, wire.TRAIN_LOSS))
            or not all(map(wire.is_finite, reply.content.array_records.values()))
        ]
        if diverged:
            raise DivergedError(
                f"round {round}: training diverged at {', '.join(diverged)} (the local model is "
                "not finite). The rounds before are recorded; resuming would repeat this: start a "
                "new run with a lower client.optimizer.learning_rate, or a warm-up"
            )

    def _aggregate(self, round: int, model: Model, replies: Mapping[int, Message]) -> Model:
        try:
            arrays, _ = self.strategy.aggregate_train(round, list(replies.values()))
        except Exception:
            self._check_finite(round, replies)
            raise
        if arrays is None:
            raise RunError(f"round {round}: the strategy returned no model")
        if not wire.is_finite(arrays):
            self._check_finite(round, replies)
            raise RunError(f"round {round}: the strategy returned a model that is not finite")
        return rounded_like(model, arrays)

    def _evaluate(self, round: int, model: Model) -> float | None:
        """Record the values of the model and return the selecting one."""
        record = RecordDict(
            {wire.ARRAYS: wire.to_arrays(model), wire.CONFIG: ConfigRecord({wire.ROUND: round})}
        )
        messages = [Message(record, node, MessageType.EVALUATE) for node in self.nodes.values()]
        replies, failed = self._exchange(messages)
        if failed:
            site, why = next(iter(failed.items()))
            raise RunError(f"round {round}: {self.names[site]} failed to evaluate: {why}")
        answers = {
            self.names[site]: wire.read_predictions(reply) for site, reply in replies.items()
        }
        predictions: dict[str, Mapping[str, Predicted]] = {
            split: {name: answer[split] for name, answer in answers.items()}
            for split in next(iter(answers.values()))
        }
        if external := self.external(model):
            predictions["external"] = external
        rows = score(self.scenario, round, predictions)
        self.folder.add_metrics(rows)
        self.folder.save_predictions(round, predictions)
        value: float | None = next(row["value"] for row in rows if self._selects(row))
        return value

    def _selects(self, row: Mapping[str, Any]) -> bool:
        wanted = ("validation", POOLED, self.scenario.evaluation.select_by)
        return (row["split"], row["site"], row["metric"]) == wanted


def find_sites(grid: Grid) -> dict[int, int]:
    """Ask every node which site it is and return site -> node, in site order."""
    messages = [
        Message(RecordDict({wire.CONFIG: ConfigRecord()}), node, MessageType.QUERY)
        for node in grid.get_node_ids()
    ]
    sites = {
        int(str(reply.content.config_records[wire.CONFIG][wire.SITE])): reply.metadata.src_node_id
        for reply in grid.send_and_receive(messages)
    }
    return dict(sorted(sites.items()))


def _metric(reply: Message, name: str) -> float:
    value = next(iter(reply.content.metric_records.values()))[name]
    return float(str(value))


def _mean(values: Mapping[int, float], weights: Mapping[int, int]) -> float:
    return sum(values[k] * weights[k] for k in values) / sum(weights.values())


def _number(value: float | None) -> float | None:
    """Return the value, or None where JSON has no number for it."""
    return value if value is not None and np.isfinite(value) else None


def _finite(terms: Mapping[str, float | int]) -> dict[str, float | int | None]:
    return {name: _number(value) for name, value in terms.items()}
