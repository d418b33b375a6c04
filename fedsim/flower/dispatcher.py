"""Who is sent which model and plan, and what an update is worth that began from an older model.

The round policy decides a round before anyone trains. A site that started some rounds ago trains
now, from the model of that round, with that round's learning rate and random streams. Its update
counts relative to the current model: strategies are given the local model

    current + s(staleness) * (local - start)

which is the local model itself, bit for bit, where the start is current and s is 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from torch import Tensor

from clients.training import Plan
from fedsim.fleet.fleet import Fleet
from fedsim.fleet.round_policy import RoundPolicy
from fedsim.fleet.turn import Schedule, Task, Turn
from fedsim.flower import wire

Model = Mapping[str, Tensor]


class Dispatcher:
    """The rounds of one run on the virtual clock.

    Args:
        policy: the scenario's.
        fleet: the sites.
    """

    def __init__(self, policy: RoundPolicy, fleet: Fleet) -> None:
        self._policy, self._fleet = policy, fleet
        self._schedule = Schedule()
        self._models: dict[int, Model] = {}
        self._turn = Turn(0, 0.0, 0.0, ())
        self._tasks: dict[int, Task] = {}
        self._contents: dict[tuple[int, Plan], RecordDict] = {}

    def absent(self, round: int, cohort: list[int]) -> list[int]:
        """Return the sites of a cohort that will not be there when a round begins."""
        return [site for site in cohort if self._fleet.is_absent(site, round)]

    def begin(self, round: int, cohort: list[int], model: Model) -> list[int]:
        """Begin a round and return the sites that train in it, ascending.

        Args:
            round: 1-based.
            cohort: sites that the scenario's cohort drew.
            model: the current global model.
        """
        self._turn, self._schedule = self._policy.plan(round, cohort, self._schedule, self._fleet)
        needed = {task.version for task in self._turn.counted} | set(self._schedule.versions())
        models = {**self._models, round - 1: model}
        self._models = {version: models[version] for version in needed | {round - 1}}
        self._contents = {}
        self._tasks = {task.site: task for task in self._turn.counted}
        return list(self._tasks)

    def starts(self) -> dict[int, int]:
        """Return for each site that trains the round that it started in."""
        return {site: task.version + 1 for site, task in self._tasks.items()}

    def address(self, site: int, message: Message) -> None:
        """Put into a message what its site starts from and what it does, where that is its own."""
        task = self._tasks[site]
        plan = replace(self._fleet.plan_of(site), max_steps=task.max_steps)
        if not self._turn.staleness(task) and plan == self._fleet.plan:
            return
        if (task.version, plan) not in self._contents:
            self._contents[task.version, plan] = self._content(task, plan, message.content)
        message.content = self._contents[task.version, plan]

    def bring_up_to_date(self, site: int, reply: Message) -> None:
        """Make a reply one that started from the current model."""
        task = self._tasks[site]
        staleness = self._turn.staleness(task)
        if staleness:
            reply.content[wire.ARRAYS] = rebased(
                reply.content.array_records[wire.ARRAYS],
                self._models[task.version],
                self._models[self._turn.round - 1],
                self._policy.discount(staleness),
            )

    def row(self) -> dict[str, Any]:
        """Return what `rounds.jsonl` says of the round that began last."""
        return {
            "absent": [self._fleet.names[site] for site in self._turn.absent],
            "virtual": self._virtual() if self._fleet.groups else None,
        }

    def state(self) -> dict[str, Any]:
        """Return all that is needed to go on after a round."""
        versions = self._schedule.versions()
        return {
            "schedule": self._schedule.as_data(),
            "models": {str(version): dict(self._models[version]) for version in versions},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._schedule = Schedule.from_data(state["schedule"])
        self._models = {int(version): model for version, model in state["models"].items()}

    def _content(self, task: Task, plan: Plan, usual: RecordDict) -> RecordDict:
        config = ConfigRecord(dict(usual.config_records[wire.CONFIG]))
        config[wire.ROUND] = task.version + 1
        content = RecordDict({**usual, wire.CONFIG: config, wire.PLAN: wire.plan_record(plan)})
        if self._turn.staleness(task):
            content[wire.ARRAYS] = wire.to_arrays(self._models[task.version])
        return content

    def _virtual(self) -> dict[str, Any]:
        turn, late = self._turn, set(self._turn.late)
        tasks = sorted((*turn.counted, *turn.late), key=lambda task: task.site)
        return {
            "begin_s": turn.begin_s,
            "end_s": turn.end_s,
            "tasks": [
                {
                    "site": self._fleet.names[task.site],
                    "counted": task not in late,
                    "staleness": turn.staleness(task),
                    "start_s": task.start_s,
                    "downloaded_s": task.downloaded_s,
                    "computed_s": task.computed_s,
                    "uploaded_s": task.uploaded_s,
                }
                for task in tasks
            ],
        }


def rebased(local: ArrayRecord, start: Model, current: Model, factor: float) -> ArrayRecord:
    """Return current + factor * (local - start), formed in double precision.

    What is no floating-point number, such as a count of batches, stays the local one.
    """
    moved = {}
    for name, array in local.items():
        tensor, now = wire.to_tensor(array), current[name]
        if tensor.is_floating_point():
            update = tensor.double() - start[name].to(tensor.device).double()
            tensor = (now.to(tensor.device).double() + factor * update).to(tensor.dtype)
        moved[name] = tensor
    return wire.to_arrays(moved)
