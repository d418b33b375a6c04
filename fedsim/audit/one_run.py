"""One-run auditing: one training with canaries, of which an attacker guesses who was there.

At one site, the one with the largest epsilon, m canaries join the training images, each by a fair
coin; a canary that does not is a blank, which the mechanism turns into nothing. Then the site goes
through all its rounds, in its real training code and with the noise, the sampling rate and the
number of steps that its ledger has; only the other sites stay away, who could not reveal more of
this one. The attacker sees what the server sees, the model before and after each round, knows the
canaries, and explains the updates as sums of their gradients (ridge regression): the weight of each
is its score. The best and the worst scores are guessed to be of canaries that were there or not. So
many right guesses are improbable under a small epsilon: the bound.

Canaries are images of other sites with labels drawn at random, so that nothing but the training
tells of them.

Source: Steinke, Nasr and Jagielski, NeurIPS 2023 (arXiv:2305.08846), algorithm 1 and theorem 5.2.
The difference: the numbers of guesses are fixed beforehand, all canaries and a tenth of them, and
share the error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clients.batch import Batch
from clients.objectives import Context
from clients.per_example import PerUnit
from clients.regularisers import Local
from fedsim.audit.bounds import clopper_pearson, one_run_epsilon
from fedsim.audit.claims import EXAMPLE, private_steps
from fedsim.audit.finding import CONFIDENCE, Finding, Outcome, does_not_apply
from fedsim.audit.subject import Subject
from fedsim.flower import private_training
from fedsim.flower.workplace import Workplace
from fedsim.privacy.accounting import epsilon
from fedsim.privacy.directed_rounding import rounded_down, rounded_up
from fedsim.privacy.dp_sgd import Steps
from fedsim.privacy.events import history
from fedsim.privacy.ledger import Entry

AT_ONCE = 64
"""Canaries whose gradients are formed at a time."""
SHARES = (1.0, 0.1)
"""Of the canaries that are guessed, the clearest first."""
RIDGE = 0.01
"""Of the regression, in units of a gradient's squared length."""
MOST_NUMBERS = 2**27
"""Of all the canaries' gradients together; of larger models some parameters are looked at."""
Coins = NDArray[np.bool_]


@dataclass(frozen=True)
class Target:
    """The site that is audited.

    Args:
        site: which one.
        epsilon: of its ledger.
        rounds: round -> what it does there.
    """

    site: int
    epsilon: float
    rounds: Mapping[int, Steps]


def run(subject: Subject, tell: Callable[[int, int], None]) -> Outcome:
    """Train a site with canaries and bound its epsilon from below by guessing who was there."""
    if not subject.has_private_steps:
        return does_not_apply("the ledger has no private steps of single images")
    target = _target(subject)
    workplace = Workplace(subject.scenario, subject.population, subject.device)
    workplace.streams = subject.streams
    canaries = _canaries(subject, workplace, target.site)
    coins = subject.streams.numpy("one_run_coins").random(len(canaries)) < 0.5
    scores = _scores(workplace, target, canaries, coins, tell)
    found = [_finding(subject, target, scores, coins, share) for share in SHARES]
    name, num = subject.population.names[target.site], len(canaries)
    most = max(_ceilings(subject, num, 1 - CONFIDENCE))
    can = "can" if max(_ceilings(subject, num, subject.error)) > target.epsilon else "cannot"
    shown, said = rounded_up(most, ".2f"), rounded_up(target.epsilon, ".4g")
    note = (
        f"{name} went through its {len(target.rounds)} rounds again, with {num} canaries put in by "
        f"coins. So many cannot show more than epsilon {shown}, and the ledger's {said} {can} "
        "raise an alarm. A small bound proves no privacy: a better attack may find more."
    )
    return Outcome(found, [note], {"seed": subject.options.seed, "canaries": num})


def seconds(subject: Subject) -> float:
    """Return about how long `run` takes, judged by the images the run trained on in its time."""
    if not subject.has_private_steps:
        return 0.0
    target, num = _target(subject), subject.options.num_canaries
    size = len(subject.population.indices[target.site]["train"])
    drawn = sum(steps.sampling_rate * steps.num_steps for steps in target.rounds.values())
    work = drawn * (size + num / 2) + num * len(target.rounds)
    done = sum(
        (entry.num_units or 0) * rate * count
        for entry in subject.ledger
        if entry.event is not None and entry.unit == EXAMPLE
        for _, rate, count in private_steps([(entry.event, 1)])
    )
    return 2 + subject.seconds * work / done


def _target(subject: Subject) -> Target:
    """Return the site with the largest epsilon, the smallest of equal ones."""
    names, by_site = list(subject.population.names), dict[str, list[Entry]]()
    for entry in subject.ledger:
        if entry.site in names and entry.event is not None and entry.unit == EXAMPLE:
            by_site.setdefault(entry.site, []).append(entry)
    spent = {
        site: epsilon(history((e.event, 1) for e in found if e.event is not None), subject.delta)
        for site, found in by_site.items()
    }
    largest = max(
        spent, key=lambda site: (round(spent[site], 3), -(by_site[site][0].num_units or 0))
    )
    rounds = {
        entry.round: Steps(*numbers)
        for entry in by_site[largest]
        if entry.event is not None
        for numbers in private_steps([(entry.event, 1)])
    }
    return Target(names.index(largest), spent[largest], rounds)


def _canaries(subject: Subject, workplace: Workplace, site: int) -> Batch:
    """Return images that the site does not train on, as it would see them, with random labels."""
    population = subject.population
    own = population.held(site)["train"]
    everyone = [at for h in population.holders for at in population.held(h).values()]
    others = np.setdiff1d(np.concatenate(everyone), own)
    draws = subject.streams.numpy("one_run_canaries")
    chosen = draws.permutation(others)[: subject.options.num_canaries]
    labels = draws.permutation(population.learned(chosen))
    if not np.issubdtype(labels.dtype, np.floating):
        labels = draws.integers(len(population.class_names), size=len(chosen))
    images = torch.from_numpy(population.make_images(site, chosen))
    return Batch(images.to(workplace.device), torch.from_numpy(labels).to(workplace.device))


def _scores(
    workplace: Workplace,
    target: Target,
    canaries: Batch,
    coins: Coins,
    tell: Callable[[int, int], None],
) -> NDArray[np.float64]:
    """Return how much of each canary there is in the site's updates, (canary,)."""
    module = workplace.network.module
    workplace.network.load(workplace.network.initial)
    own = workplace.examples(target.site, "train")
    images = canaries.images.clone()
    images[torch.from_numpy(~coins)] = torch.nan  # a blank: its gradient is not finite, so nothing
    examples = Batch(torch.cat([own.images, images]), torch.cat([own.labels, canaries.labels]))
    parameters = [p for p in module.parameters() if p.requires_grad]
    seen = _looked_at(workplace, sum(p.numel() for p in parameters), len(canaries))
    scores = np.zeros(len(canaries))
    for number, (round, steps) in enumerate(sorted(target.rounds.items())):
        before = _flat(parameters)[seen]
        directions = _directions(workplace, canaries, round, seen)
        local = Local({}, frozenset(), {}, {}, steps.num_steps, workplace.learning_rate(round))
        optimizer = workplace.optimizer(round)
        private_training.fit(workplace, examples, round, optimizer, steps, None, local, target.site)
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


def _weights(directions: Tensor, update: Tensor) -> NDArray[np.float64]:
    """Return the weights of directions, (canary, parameter), whose sum explains an update."""
    products = (directions @ directions.T).double().cpu()
    ridge = RIDGE * torch.eye(len(products), dtype=torch.float64)
    found: NDArray[np.float64] = torch.linalg.solve(
        products + ridge, (directions @ update).double().cpu()
    ).numpy()
    return found


def _directions(workplace: Workplace, canaries: Batch, round: int, seen: Tensor) -> Tensor:
    """Return the canaries' gradients as the model stands, of length 1, (canary, parameter)."""
    module = workplace.network.module
    context = workplace.context(canaries, round)
    parameters = [p for p in module.parameters() if p.requires_grad]
    rows = []
    module.eval()
    with PerUnit(module, workplace.gradient_mode) as per_unit:
        for start in range(0, len(canaries), AT_ONCE):
            part = canaries[start : start + AT_ONCE]
            total = partial(_total, workplace, part, context)
            _, found = per_unit.gradients(total, len(part))
            formed = [found[p].formed().values.flatten(1) for p in parameters]
            rows.append(torch.cat(formed, 1).index_select(1, seen))
    gradients = torch.cat(rows)
    lengths: Tensor = gradients.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return gradients / lengths


def _total(workplace: Workplace, examples: Batch, context: Context) -> Tensor:
    """Return the sum of the losses of examples."""
    objective = workplace.scenario.client.objective
    return objective.loss(workplace.network.module, examples, context) * len(examples)


def guessed(scores: NDArray[np.float64], coins: Coins, num: int) -> int:
    """Return how many of so many guesses are right: half of "there", half of "not there".

    Args:
        scores: (canary,), higher where a canary seems to have been there.
        coins: (canary,), whether it was.
        num: of guesses.
    """
    order = np.argsort(scores, kind="stable")
    absent, there = order[: num // 2], order[len(order) - (num - num // 2) :]
    return int((~coins[absent]).sum() + coins[there].sum())


def _finding(
    subject: Subject, target: Target, scores: NDArray[np.float64], coins: Coins, share: float
) -> Finding:
    num, delta = len(coins), subject.delta
    guesses = round(share * num)
    correct = guessed(scores, coins, guesses)
    seen, sure = (
        one_run_epsilon(correct, guesses, num, delta, error / len(SHARES))
        for error in (1 - CONFIDENCE, subject.error)
    )
    name = subject.population.names[target.site]
    alarm = ""
    if sure > target.epsilon:
        alarm = (
            f"{name}: {correct} of {guesses} guesses which canary was there are right, which shows "
            f"epsilon {rounded_down(sure, '.3f')} at least, not {rounded_up(target.epsilon, '.3f')}"
        )
    share_right = clopper_pearson(correct, guesses, 1 - CONFIDENCE)
    return Finding(
        f"right of {guesses} guesses",
        name,
        share_right.value,
        share_right.low,
        share_right.high,
        1 / (1 + math.exp(-target.epsilon)),
        seen,
        one_run_epsilon(guesses, guesses, num, delta, (1 - CONFIDENCE) / len(SHARES)),
        alarm,
    )


def _ceilings(subject: Subject, num: int, error: float) -> list[float]:
    """Return what can be shown at most with each number of guesses."""
    guesses = [round(share * num) for share in SHARES]
    return [one_run_epsilon(r, r, num, subject.delta, error / len(SHARES)) for r in guesses]
