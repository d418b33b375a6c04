"""The round loop: who takes part, what comes back, what is recorded.

Round 0 is the evaluation of the initial model. Replies are put in site order before anything reads
them, so that neither node ids nor arrival order can change a bit.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from numpy.typing import NDArray
from torch import Tensor

from fedsim.data.aggregates import Aggregates
from fedsim.data.source import POOLED
from fedsim.errors import DivergedError, RunError
from fedsim.flower import wire
from fedsim.flower.attack import Attack
from fedsim.flower.cohort_grid import CohortGrid
from fedsim.flower.dispatcher import Dispatcher
from fedsim.flower.loss_decomposition import LossDecomposition
from fedsim.flower.misfit import misfit
from fedsim.flower.moving_average import averaged
from fedsim.flower.recollection import Recollection
from fedsim.flower.scoring import Predictions, revealed, score
from fedsim.flower.strategy import restore, rounded_like, snapshot
from fedsim.records import RunFolder
from fedsim.records.read import Predicted
from fedsim.scenario import Scenario
from fedsim.seeds import Streams

if TYPE_CHECKING:
    from fedsim.flower.desk import Desk

log = logging.getLogger("fedsim")
NOTHING: Mapping[str, Any] = MappingProxyType({})
CURRENT = "current"
"""Where a checkpoint has the model to go on from, if another one is judged."""


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


class Tally:
    """What the replies of a round say, noted as they come in.

    Args:
        with_models: whether local models are kept too.
        losses_needed: whether a loss that is not finite is one of a training that diverged.
        models_needed: whether a model that is not finite is.
    """

    def __init__(
        self, with_models: bool, losses_needed: bool = True, models_needed: bool = True
    ) -> None:
        self.losses: dict[int, float] = {}
        self.sizes: dict[int, int] = {}
        self.models: dict[int, Model] = {}
        self.failed: list[int] = []
        self.diverged: list[int] = []
        self.num_bytes = 0
        self._with_models = with_models
        self._losses_needed, self._models_needed = losses_needed, models_needed

    def note(self, site: int, reply: Message) -> None:
        """Note a reply, before a strategy can empty it."""
        self.losses[site] = _metric(reply, wire.TRAIN_LOSS)
        self.sizes[site] = int(_metric(reply, wire.NUM_EXAMPLES))
        self.num_bytes += wire.num_bytes(reply)
        records = reply.content.array_records
        told = math.isfinite(self.losses[site]) or not self._losses_needed
        finite = not self._models_needed or all(map(wire.is_finite, records.values()))
        if not (told and finite):
            self.diverged.append(site)
        if self._with_models:
            self.models[site] = wire.from_arrays(records[wire.ARRAYS])


class Server:
    """The server of one run.

    Args:
        scenario: what to do.
        names: of the sites.
        strategy: a Flower strategy.
        decomposition: the loss decomposition, if it is measured.
        held_out: function of a model -> its predictions on held-out images of the server, by
            split; None where the sites have them.
        external: function of a model -> its predictions on each external set.
        folder: where everything is recorded.
        grid: reaches the sites.
        nodes: of the sites, in site order.
        dispatcher: decides who trains, from which model and in how much virtual time.
        attack: what adversaries make of their updates.
        recollection: knows what sites keep from round to round; None if they keep nothing.
        private: names of what never leaves a site; the server holds its initial values.
        truth: the labels of test images whose sites do not know them, by site.
        bags: held-out split -> site -> what it knows of its labels instead.
        desk: decides and writes down what sites release; None if nothing is protected.
    """

    def __init__(
        self,
        scenario: Scenario,
        names: Sequence[str],
        strategy: Strategy,
        decomposition: LossDecomposition | None,
        held_out: Callable[[Model], Predictions] | None,
        external: Callable[[Model], Mapping[str, Predicted]],
        folder: RunFolder,
        grid: Grid,
        nodes: Sequence[int],
        dispatcher: Dispatcher,
        attack: Attack,
        recollection: Recollection | None = None,
        private: Collection[str] = (),
        truth: Mapping[str, NDArray[Any]] = NOTHING,
        bags: Mapping[str, Mapping[str, Aggregates]] = NOTHING,
        desk: Desk | None = None,
    ) -> None:
        self.scenario = scenario
        self.names = names
        self.strategy = strategy
        self.decomposition = decomposition
        self.held_out = held_out
        self.external = external
        self.folder = folder
        self.grid = grid
        self.streams = Streams(scenario.seed)
        self.nodes = nodes
        self.dispatcher = dispatcher
        self.attack = attack
        self.recollection = recollection
        self.private = private
        self.truth = truth
        self.bags = bags
        self.desk = desk

    def run(self, initial: Model, watch: Watcher) -> Model:
        """Run from the last checkpoint, or from the initial model, to the last round.

        Args:
            initial: the initial global model.
            watch: called after every round.

        Returns:
            The final global model, or the moving average if that is judged in its place.
        """
        model = shown = initial
        first = 0
        if saved := self.folder.last_checkpoint():
            last, state = saved
            shown, first = state["model"], last + 1
            model = state.get(CURRENT, shown)
            restore(self.strategy, state["strategy"])
            self.dispatcher.restore(state["dispatcher"])
            if self.recollection is not None:
                self.recollection.restore(state["recollection"])
            if self.desk is not None:
                self.desk.restore(last, state["desk"])
        elif self.desk is not None:
            self.desk.open()
        for round in range(first, self.scenario.rounds + 1):
            start = time.perf_counter()
            train_loss = value = None
            if round:
                model, train_loss = self._round(round, model)
                shown = self._shown(round, shown, model)
            if self._is_evaluated(round):
                value = self._evaluate(round, shown)
            state = {
                "model": shown,
                "strategy": snapshot(self.strategy),
                "dispatcher": self.dispatcher.state(),
            }
            if shown is not model:
                state[CURRENT] = model
            if self.recollection is not None:
                state["recollection"] = self.recollection.state()
            if self.desk is not None:
                state["desk"] = self.desk.state()
            self.folder.save_checkpoint(round, state)
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
        return shown

    def _shown(self, round: int, before: Model, model: Model) -> Model:
        """Return what is judged after a round: the global model, or its moving average."""
        privacy = self.scenario.privacy
        decay = None if privacy is None else getattr(privacy.mechanism, "average_decay", None)
        return model if decay is None else averaged(before, model, decay, round)

    def _is_evaluated(self, round: int) -> bool:
        return round % self.scenario.evaluation.every == 0 or round == self.scenario.rounds

    def _round(self, round: int, model: Model) -> tuple[Model, float | None]:
        cohort = self.scenario.cohort.draw(len(self.nodes), round, self.streams)
        if self.desk is not None:
            cohort = self.desk.admit(round, cohort, self.dispatcher.absent(round, cohort))
        shared = self._shared(model)
        sites = self.dispatcher.begin(round, cohort, shared)
        if self.desk is not None:
            self.desk.charge(round, sites)
        self.attack.begin(self.dispatcher.starts())
        alone = self.desk is not None and self.desk.releases_alone
        messages = self._configure(round, shared, sites) if sites or alone else []
        bytes_down = sum(map(wire.num_bytes, messages))
        lens = self.decomposition if self._is_evaluated(round) else None
        tally = Tally(lens is not None, losses_needed=self.desk is None, models_needed=not alone)
        replies = self.attack.forged(self._trained(round, messages, shared, tally), shared)
        after = self._aggregate(round, model, replies, tally, alone)
        if self.recollection is not None:
            self.recollection.note(round, tally.losses)
        train_loss = _mean(tally.losses, tally.sizes)
        terms = _finite(lens.measure(tally.models, after)) if lens and tally.models else None
        self.folder.add_round(
            {
                "round": round,
                "cohort": [self.names[site] for site in tally.losses],
                "dropped": [self.names[site] for site in tally.failed],
                "attackers": [self.names[s] for s in tally.losses if s in self.attack.sites],
                **self.dispatcher.row(),
                **(self.desk.row() if self.desk is not None else {}),
                "train_loss": _number(train_loss),
                "site_train_loss": {self.names[s]: _number(v) for s, v in tally.losses.items()},
                "num_examples": {self.names[s]: n for s, n in tally.sizes.items()},
                "bytes_down": bytes_down,
                "bytes_up": tally.num_bytes,
                "loss_decomposition": terms,
            }
        )
        return after, train_loss

    def _shared(self, model: Model) -> Model:
        """Return what of a model travels."""
        return {name: tensor for name, tensor in model.items() if name not in self.private}

    def _configure(self, round: int, model: Model, sites: list[int]) -> list[Message]:
        nodes = [self.nodes[site] for site in sites]
        messages = list(
            self.strategy.configure_train(
                round, wire.to_arrays(model), ConfigRecord(), CohortGrid(self.grid, nodes)
            )
        )
        for message in messages:
            site = self.nodes.index(message.metadata.dst_node_id)
            self.dispatcher.address(site, message)
            if self.desk is not None:
                wire.address_release(message, self.desk.release(site))
        self._remind(round, messages)
        return messages

    def _remind(self, round: int, messages: list[Message]) -> None:
        """Put into messages which memory their site is to use, if sites keep anything."""
        if self.recollection is not None:
            by_site = {self.nodes.index(m.metadata.dst_node_id): m for m in messages}
            self.recollection.address(round, by_site, self.folder.checkpoints())

    def _replies(self, messages: list[Message]) -> Iterator[tuple[int, Message]]:
        """Send messages; yield sites and their replies in site order, as early as that can be."""
        by_site = {self.nodes.index(m.metadata.dst_node_id): m for m in messages}
        due, early = deque(sorted(by_site)), dict[int, Message]()
        for reply in self.grid.send_and_receive([by_site[site] for site in due]):
            early[self.nodes.index(reply.metadata.src_node_id)] = reply
            while due and due[0] in early:
                yield due[0], early.pop(due.popleft())
        if due:
            raise RunError(f"no reply from {', '.join(self.names[site] for site in due)}")

    def _trained(
        self, round: int, messages: list[Message], model: Model, tally: Tally
    ) -> Iterator[tuple[int, Message]]:
        """Yield sites that trained and their replies, in site order, and note what these say."""
        for site, reply in self._replies(messages):
            why = str(reply.error.reason) if reply.has_error() else misfit(reply, model)
            if why:
                tally.failed.append(site)
                self._refuse_or_note(round, site, why)
            else:
                tally.note(site, reply)
                self.dispatcher.bring_up_to_date(site, reply)
                yield site, reply

    def _refuse_or_note(self, round: int, site: int, reason: str) -> None:
        """Stop the run over a site that failed to train, or go on without it, as it says.

        Raises:
            RunError: unless the scenario drops it.
        """
        failure = f"round {round}: {self.names[site]} failed to train: {reason}"
        if self.scenario.on_client_failure == "abort":
            raise RunError(failure)
        log.warning("%s; the round goes on without", failure)

    def _refuse_diverged(self, round: int, tally: Tally) -> None:
        """Stop where training diverged: nothing that follows would mean anything."""
        if tally.diverged:
            raise DivergedError(
                f"round {round}: training diverged at "
                f"{', '.join(self.names[site] for site in tally.diverged)} (the local model is "
                "not finite). The rounds before are recorded; resuming would repeat this: start a "
                "new run with a lower client.optimizer.learning_rate, or a warm-up"
                + self._or_weaker(round)
            )

    def _or_weaker(self, round: int) -> str:
        """Return what else may help where numbers are not finite: nothing without adversaries."""
        parts = self.scenario.population.adversaries
        return ", or weaker adversaries" * any(part.from_round <= round for part in parts)

    def _aggregate(
        self, round: int, model: Model, replies: Iterator[Message], tally: Tally, alone: bool
    ) -> Model:
        """Return the next global model, or the same one if nothing is to be released.

        Without a reply that is so, unless the server releases alone.
        """
        first = next(replies, None)
        if first is None and not alone:
            return model
        try:
            received = chain([] if first is None else [first], replies)
            arrays, _ = self.strategy.aggregate_train(round, received)
        except RunError:
            raise
        except Exception:
            self._refuse_diverged(round, tally)
            raise
        self._refuse_diverged(round, tally)
        if arrays is None and alone:
            log.warning("round %d: too few sites answered, so that nothing is released", round)
            return model
        if arrays is None:
            raise RunError(f"round {round}: the strategy returned no model")
        if not wire.is_finite(arrays):
            raise RunError(
                f"round {round}: the strategy returned a model that is not finite: use another "
                f"strategy{self._or_weaker(round)}"
            )
        return {**model, **rounded_like(self._shared(model), arrays)}

    def _evaluate(self, round: int, model: Model) -> float | None:
        """Record the values of the model and return the selecting one."""
        found = self.held_out(model) if self.held_out else self._told_by_sites(round, model)
        predictions = dict(revealed(found, self.truth))
        if external := self.external(model):
            predictions["external"] = external
        rows = score(self.scenario, round, predictions, self.bags)
        self.folder.add_metrics(rows)
        self.folder.save_predictions(round, predictions)
        value: float | None = next(row["value"] for row in rows if self._selects(row))
        return value

    def _told_by_sites(self, round: int, model: Model) -> Predictions:
        """Return what every site says of its held-out images."""
        arrays = wire.to_arrays(self._shared(model))
        record = RecordDict({wire.ARRAYS: arrays, wire.CONFIG: ConfigRecord({wire.ROUND: round})})
        messages = [Message(record, node, MessageType.EVALUATE) for node in self.nodes]
        if self.scenario.client.personalisation is not None:
            self._remind(round, messages)
        answers = {}
        for site, reply in self._replies(messages):
            if reply.has_error():
                why = reply.error.reason
                raise RunError(f"round {round}: {self.names[site]} failed to evaluate: {why}")
            try:
                answers[self.names[site]] = wire.read_predictions(reply)
            except (KeyError, TypeError, ValueError) as error:
                raise RunError(
                    f"round {round}: the evaluation of {self.names[site]} cannot be read: {error!r}"
                ) from error
        return {
            split: {name: answer[split] for name, answer in answers.items()}
            for split in next(iter(answers.values()))
        }

    def _selects(self, row: Mapping[str, Any]) -> bool:
        wanted = ("validation", POOLED, self.scenario.evaluation.select_by)
        return (row["split"], row["site"], row["metric"]) == wanted


def _metric(reply: Message, name: str) -> float:
    value = next(iter(reply.content.metric_records.values()))[name]
    return float(str(value))


def _mean(values: Mapping[int, float], weights: Mapping[int, int]) -> float | None:
    """Return the weighted mean of the values that are finite, None if there are none."""
    known = [k for k in values if math.isfinite(values[k])]
    if not known:
        return None
    return sum(values[k] * weights[k] for k in known) / sum(weights[k] for k in known)


def _number(value: float | None) -> float | None:
    """Return the value, or None where JSON has no number for it."""
    return value if value is not None and np.isfinite(value) else None


def _finite(terms: Mapping[str, float | int]) -> dict[str, float | int | None]:
    return {name: _number(value) for name, value in terms.items()}
