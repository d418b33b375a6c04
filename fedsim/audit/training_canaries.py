"""Canaries in the private training of a site: whole units of what its mechanism hides.

A canary is made as the site's own units are: an image, a patient with several, a bag. Its images
are of other sites, as this one would see them, and what is learned of it is drawn at random, so
that nothing but the training tells of it: a label, the same for all images of a patient, or the
response of a bag whose images have that label. One that is not there is a blank, which the
mechanism turns into nothing.

The site goes through all its rounds, in its real training code and with the noise, the sampling
rate and the number of steps that its ledger has; only the other sites stay away, who could not
reveal more of this one. The attacker sees what the server sees, the model before and after each
round, knows the canaries, and explains the updates as sums of their gradients (ridge regression):
the weight of each is its score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clients.batch import Batch
from clients.dpsgd import summed_loss
from clients.per_example import PerUnit
from clients.regularisers import Local
from clients.units import Units
from fedsim.audit.claims import private_steps
from fedsim.audit.subject import Subject
from fedsim.audit.trial import Coins, Scores, Target, TooFewCanaries, Trial, drawn_coins
from fedsim.data.aggregates import Aggregates, unknown
from fedsim.data.population import Indices, Population
from fedsim.data.source import PATIENT
from fedsim.flower import private_training
from fedsim.flower.workplace import Workplace
from fedsim.privacy.units import UNITS, Unit

AT_ONCE = 64
"""Images whose gradients are formed at a time."""
RIDGE = 0.01
"""Of the regression, in units of a gradient's squared length."""
MOST_NUMBERS = 2**27
"""Of all the canaries' gradients together; of larger models some parameters are looked at."""
FEWEST = 20
"""Canaries that a trial needs, so that a tenth of them are guessed on either side."""
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Joined:
    """A site with canaries among its training images, as if all of them were there.

    Args:
        workplace: where it trains.
        site: which one.
        sizes: images of each canary, (canary,); the last ones of the site, canary by canary.
    """

    workplace: Workplace
    site: int
    sizes: Indices

    @property
    def examples(self) -> Batch:
        """What the site trains on."""
        return self.workplace.examples(self.site, "train")

    def units(self) -> Units:
        """Return the units that it hides, the canaries last."""
        return _units(self.workplace, self.site)

    def without(self, absent: Coins) -> Batch:
        """Return what the site trains on if blanks stand in place of some canaries, (canary,)."""
        images = self.examples.images.clone()
        blank = torch.from_numpy(np.repeat(absent, self.sizes))
        images[len(images) - len(blank) :][blank] = torch.nan  # no finite gradient, so nothing
        return replace(self.examples, images=images)


def trial(subject: Subject, target: Target, tell: Tell) -> Trial:
    """Train a site with canaries and score each."""
    joined = join(subject, target.name)
    coins = drawn_coins(subject, len(joined.sizes))
    scores = _scores(joined, target, coins, tell)
    return Trial(
        scores,
        coins,
        f"{target.name} went through its {len(target.rounds)} rounds again, "
        f"with {len(coins)} canaries put in by coins{_sizes(subject, joined)}.",
    )


def _sizes(subject: Subject, joined: Joined) -> str:
    """Return how many images canaries have, empty if it is one."""
    least, most = int(joined.sizes.min()), int(joined.sizes.max())
    if most == 1:
        return ""
    images = f"{most}" if least == most else f"{least} to {most}"
    return f", each a {UNITS[_unit(subject)]} of {images} images"


def seconds(subject: Subject, target: Target) -> float:
    """Return about how long that takes, judged by the units the run trained on in its time."""
    num = subject.options.num_canaries
    drawn = sum(steps.sampling_rate * steps.num_steps for steps in target.rounds.values())
    work = drawn * (target.num_units + num / 2) + num * len(target.rounds)
    done = sum(
        (entry.num_units or 0) * rate * count
        for entry in subject.ledger
        if entry.event is not None and entry.unit == _unit(subject)
        for _, rate, count in private_steps([(entry.event, 1)])
    )
    return 2 + subject.seconds * work / done


def join(subject: Subject, name: str) -> Joined:
    """Return a site with as many canaries as the options name, or as there are images for.

    Raises:
        TooFewCanaries: if those are fewer than `FEWEST`.
    """
    population, draws = subject.population, subject.streams.numpy("one_run_canaries")
    site = population.names.index(name)
    own = population.held(site)["train"]
    everyone = [at for h in population.holders for at in population.held(h).values()]
    others = draws.permutation(np.setdiff1d(np.concatenate(everyone), own))
    sizes = draws.choice(_units(subject.workplace, site).sizes, subject.options.num_canaries)
    sizes = sizes[sizes.cumsum() <= len(others)]
    if len(sizes) < FEWEST:
        raise TooFewCanaries(f"other sites have images for {len(sizes)} canaries, not {FEWEST}")
    taken = replace(
        population,
        indices=[
            {**held, "train": np.concatenate([own, others[: sizes.sum()]])} if k == site else held
            for k, held in enumerate(population.indices)
        ],
        kept={},
        **_known(population, site, others[: sizes.sum()], sizes, draws),
    )
    return Joined(_workplace(subject, taken), site, sizes)


def _units(workplace: Workplace, site: int) -> Units:
    """Return the units that a site hides, of those that it trains on."""
    of_example = private_training.unit_of_example(workplace, site)
    return Units(workplace.examples(site, "train"), of_example)


def _workplace(subject: Subject, population: Population) -> Workplace:
    workplace = Workplace(subject.scenario, population, subject.device)
    workplace.streams = subject.streams
    return workplace


def _known(
    population: Population, site: int, images: Indices, sizes: Indices, draws: np.random.Generator
) -> dict[str, Any]:
    """Return the fields of a population that say whose images canaries are, and what they show.

    Args:
        population: without canaries.
        site: where they are put in.
        images: positions of theirs, canary by canary.
        sizes: images of each canary.
        draws: of what is learned of them.
    """
    num, of_image = len(sizes), np.repeat(np.arange(len(sizes)), sizes)
    labels = draws.integers(len(population.class_names), size=num)
    found: dict[str, Any] = {}
    if PATIENT in population.columns:
        whose = population.columns[PATIENT].astype(object)
        whose[images] = [f"canary {number}" for number in of_image]
        found["columns"] = {**population.columns, PATIENT: whose.astype(str)}
    kind = "labels" if population.targets is None else "targets"
    truths = population.truths.copy()
    if bags := population.bags(site, "train"):
        (own,) = bags
        responses = np.eye(len(population.class_names))[labels]
        if own.of_numbers:
            responses = draws.choice(own.responses, num)
        with_canaries = Aggregates(
            np.concatenate([own.of_example, len(own.responses) + of_image]),
            np.concatenate([own.responses, responses.astype(np.float32)]),
        )
        knows = population.knows(site)
        knows = replace(knows, aggregates={**knows.aggregates, "train": (with_canaries,)})
        truths[images] = unknown(truths[images])
        return found | {kind: truths, "knowledge": {**population.knowledge, site: knows}}
    if population.targets is not None:
        labels = draws.choice(population.truth(site, "train"), num)
    truths[images] = labels[of_image]
    return found | {kind: truths}


def _unit(subject: Subject) -> Unit:
    assert subject.scenario.privacy is not None
    return subject.scenario.privacy.mechanism.unit


def _scores(joined: Joined, target: Target, coins: Coins, tell: Tell) -> Scores:
    """Return how much of each canary there is in the site's updates, (canary,)."""
    workplace = joined.workplace
    module = workplace.network.module
    workplace.network.load(workplace.network.initial)
    examples, units = joined.without(~coins), joined.units()
    parameters = [p for p in module.parameters() if p.requires_grad]
    seen = _looked_at(workplace, sum(p.numel() for p in parameters), len(coins))
    scores = np.zeros(len(coins))
    for number, (round, steps) in enumerate(sorted(target.rounds.items())):
        before = _flat(parameters)[seen]
        directions = _directions(joined, units, round, seen)
        local = Local({}, frozenset(), {}, {}, steps.num_steps, workplace.learning_rate(round))
        optimizer = workplace.optimizer(round)
        private_training.fit(workplace, examples, round, optimizer, steps, None, local, joined.site)
        scores += _weights(directions, before - _flat(parameters)[seen])
        tell(number + 1, len(target.rounds))
    return scores


def _flat(parameters: Sequence[Tensor]) -> Tensor:
    return torch.cat([p.detach().flatten() for p in parameters])


def _looked_at(workplace: Workplace, num_parameters: int, num_canaries: int) -> Tensor:
    """Return which parameters the attacker looks at: all, if their gradients can be held."""
    draws = workplace.streams.torch("one_run_parameters")
    most = max(1, MOST_NUMBERS // num_canaries)
    chosen = torch.randperm(num_parameters, generator=draws)[:most]
    return chosen.sort().values.to(workplace.device)


def _weights(directions: Tensor, update: Tensor) -> Scores:
    """Return the weights of directions, (canary, parameter), whose sum explains an update."""
    products = (directions @ directions.T).double().cpu()
    ridge = RIDGE * torch.eye(len(products), dtype=torch.float64)
    found: Scores = torch.linalg.solve(
        products + ridge, (directions @ update).double().cpu()
    ).numpy()
    return found


def _directions(joined: Joined, units: Units, round: int, seen: Tensor) -> Tensor:
    """Return the canaries' gradients as the model stands, of length 1, (canary, parameter)."""
    workplace = joined.workplace
    module, objective = workplace.network.module, workplace.scenario.client.objective
    context = workplace.context(joined.examples, round)
    parameters = [p for p in module.parameters() if p.requires_grad]
    canaries = torch.arange(len(units))[-len(joined.sizes) :]
    rows = []
    module.eval()
    with PerUnit(module, workplace.gradient_mode) as per_unit:
        for part in units.parts(canaries, AT_ONCE):
            total = partial(summed_loss, module, part.batch, objective, context, len(part.batch))
            _, found = per_unit.gradients(total, part.num_units, part.unit_of_example)
            formed = [found[p].formed().values.flatten(1) for p in parameters]
            rows.append(torch.cat(formed, 1).index_select(1, seen))
    gradients = torch.cat(rows)
    lengths: Tensor = gradients.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return gradients / lengths
