"""Membership inference: can training images be told from others that could have been trained on?

Members and others must differ in nothing but the training. So they are a random division of the
same images, class by class at every site: the training images and the test images of a run that
held out a random share of each site; of any other run, as where a publisher has set test images
apart, the run is trained again on a half of the training images. So it is where patients have
several images, as they were held out whole: then whoever finds one image of a patient in the
training has found all, which is as many steps apart, and what a model learned of other images of
the same patient shows too. A half is of single images, whoever's they are. Images that are there
twice, pixel for pixel, are left out.

- Loss threshold (Yeom et al., CSF 2018): images with a small loss are taken for members.
- LiRA, offline (Carlini et al., S&P 2022): shadow models are trained on other random halves; an
  image is taken for a member if the model is surer of it than models are that did not see it. With
  few shadows one variance serves all images. For classes, how sure: log p / (1 - p).

As many images are members whatever the draws, so who tells a member from another image tells two
data sets apart that differ in one image in place of another at the same site. Neighbours of the
ledger have a blank there, two steps apart, and so are claims and epsilons here: a true positive
rate of T(T(FPR)), see `fedsim.privacy.attacks`; TPR <= e^(2 epsilon) FPR + (1 + e^epsilon) delta.

The threshold for a false positive rate of 1 % is chosen on a half of the others, and tried on the
rest. These are average images: who is unusual is found more easily, so that a small figure here
promises nothing to single patients.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clients.batch import Batch
from fedsim.audit.bounds import area_under_curve, clopper_pearson
from fedsim.audit.finding import CONFIDENCE, Finding, Outcome, does_not_apply
from fedsim.audit.retraining import retrain
from fedsim.audit.subject import Subject
from fedsim.data.divided_sites import systematic
from fedsim.data.duplicates import digests
from fedsim.data.population import Indices, Population
from fedsim.data.source import PATIENT
from fedsim.privacy.accounting import epsilon
from fedsim.privacy.attacks import FALSE_POSITIVE_RATE, strongest_on_replaced
from fedsim.privacy.balance import ALL_SITES
from fedsim.privacy.directed_rounding import rounded_down, rounded_up
from fedsim.privacy.events import History, history
from fedsim.privacy.ledger import Entry
from fedsim.scenario import HeldOut

Scores = NDArray[np.float64]
TWO_STEPS_APART = ("example", "site")
"""Units of which a blank stands between an image of a site and another one in its place: that image
or the whole site. Of a patient or a bag, of which an image is a part, nothing so simple holds."""
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Pool:
    """Images among which members are sought.

    Args:
        positions: of each site.
        members: which of them the model was trained on, of each site.
        model: the final one.
        ledger: of its training.
    """

    positions: list[Indices]
    members: list[NDArray[np.bool_]]
    model: Mapping[str, Tensor]
    ledger: list[Entry]


def run(subject: Subject, tell: Tell) -> Outcome:
    """Try to tell the training images of a run, and say how well that went."""
    if why := _obstacle(subject):
        return does_not_apply(why)
    num_models = subject.options.num_shadows + (not _has_random_test(subject))
    steps = Steps(tell, max(1, num_models * subject.scenario.rounds))
    pool = _pool(subject, steps)
    alone = _there_once(subject.population, pool.positions)
    member = np.concatenate(pool.members)[alone]
    allowed = _history(subject, pool.ledger)
    scores = {"loss threshold": _scores(subject, pool.model, pool.positions)[alone]}
    if subject.options.num_shadows:
        scores["LiRA"] = _ratios(subject, pool, steps)[alone]
    error = subject.error / len(scores)
    findings = [
        finding
        for name, found in scores.items()
        for finding in _findings(subject, name, found, member, allowed, error)
    ]
    notes = [_division(subject, member, alone)]
    if _hides_others(subject, allowed):
        notes.append("The ledger's units are no single images: its epsilon does not hold for one.")
    options = {"seed": subject.options.seed, "shadows": subject.options.num_shadows}
    return Outcome(findings, notes, options)


def _division(subject: Subject, member: NDArray[np.bool_], alone: NDArray[np.bool_]) -> str:
    """Return who are members and others, in words."""
    said = (
        f"{int(member.sum())} members and {int((~member).sum())} others, a random division of the "
        f"same images, {len(alone) - int(alone.sum())} with a double left out. "
    )
    if _has_random_test(subject):
        return f"{said}The others are the run's test images."
    again = "The run was trained again on half of its training images for that"
    if _drew_test(subject):
        again += ", as images of one patient were held out together"
    return f"{said}{again}."


def _hides_others(subject: Subject, allowed: History | None) -> bool:
    """Return whether something is private, and that is no single image."""
    return allowed is None and any(entry.event is not None for entry in subject.ledger)


def seconds(subject: Subject) -> float:
    """Return about how long `run` takes."""
    if _obstacle(subject):
        return 0.0
    halves = subject.options.num_shadows + (not _has_random_test(subject))
    return 5 + 0.5 * subject.seconds * halves


class Steps:
    """Counts rounds of all trainings.

    Args:
        tell: told how many are done, and of how many.
        num: of them.
    """

    def __init__(self, tell: Tell, num: int) -> None:
        self._tell, self._num, self._done = tell, num, 0

    def __call__(self, round: int) -> None:
        """Count one, but for the evaluation before the first."""
        self._done += round > 0
        self._tell(min(self._done, self._num), self._num)


def _obstacle(subject: Subject) -> str:
    """Return why there is nothing to attack, empty if there is."""
    scenario, population = subject.scenario, subject.population
    keeps = scenario.client.personalisation
    if population.server is not None:
        return "sites draw their images anew, so no fixed set of them was trained on"
    if population.knowledge:
        return "sites do not know all labels of their images, so there is no loss of one to look at"
    if keeps is not None and keeps.keeps_parameters:
        return f"with {keeps.kind} there is no global model"
    return ""


def _has_random_test(subject: Subject) -> bool:
    """Return whether test and training images differ in nothing but the training, one by one."""
    return _drew_test(subject) and not _has_several_of_a_patient(subject.population)


def _drew_test(subject: Subject) -> bool:
    """Return whether test images, or patients, are a random share."""
    sites = subject.scenario.population
    drawn = isinstance(sites.held_out, HeldOut) and "test" in sites.held_out.shares
    return drawn and not sites.label_noise  # of training labels alone


def _has_several_of_a_patient(population: Population) -> bool:
    """Return whether images were divided by whole patients, some of whom have several."""
    if PATIENT not in population.columns:
        return False
    held = np.concatenate([at for site in population.indices for at in site.values()])
    known = population.columns[PATIENT][held]
    named = known[known != ""]
    return len(np.unique(named)) < len(named)


def _pool(subject: Subject, steps: Callable[[int], None]) -> Pool:
    held = subject.population.indices
    if _has_random_test(subject):
        positions = [np.concatenate([site["train"], site["test"]]) for site in held]
        members = [
            np.arange(len(at)) < len(site["train"])
            for at, site in zip(positions, held, strict=True)
        ]
        record = subject.record
        model = record.model(record.selection.final_round)
        return Pool(positions, members, model, subject.ledger)
    positions = [site["train"] for site in held]
    members = _halves(subject, positions, model=0)
    trained = retrain(subject, _chosen(positions, members), steps)
    return Pool(positions, members, trained.model, trained.ledger)


def _halves(subject: Subject, positions: Sequence[Indices], model: int) -> list[NDArray[np.bool_]]:
    """Return which images a model is trained on: a random half of each class at each site."""
    found = []
    for site, at in enumerate(positions):
        draws = subject.streams.numpy("membership", model=model, site=site)
        inside = np.zeros(len(at), bool)
        inside[systematic(subject.population.labels[at], 0.5, draws)] = True
        found.append(inside)
    return found


def _chosen(positions: Sequence[Indices], members: Sequence[NDArray[np.bool_]]) -> list[Indices]:
    return [np.sort(at[inside]) for at, inside in zip(positions, members, strict=True)]


def _there_once(population: Population, positions: Sequence[Indices]) -> NDArray[np.bool_]:
    """Return which images have no double among them, (image,)."""
    found = list(digests(population.pixels, np.concatenate(positions)))
    counts = Counter(found)
    return np.array([counts[digest] == 1 for digest in found])


def _scores(subject: Subject, model: Mapping[str, Tensor], positions: Sequence[Indices]) -> Scores:
    """Return how sure a model is of the truth of images, (image,), in the order of the sites."""
    population, workplace = subject.population, subject.workplace
    found = []
    for site, at in enumerate(positions):
        images = torch.from_numpy(population.make_images(site, at)).to(workplace.device)
        learned = torch.from_numpy(population.learned(at)).to(workplace.device)
        (scores,) = workplace.network.predict(model, Batch(images, learned))
        found.append(_sure(scores.double(), learned, subject))
    return np.concatenate(found)


def _sure(scores: Tensor, learned: Tensor, subject: Subject) -> Scores:
    """Return log p / (1 - p) of the true class, or minus the squared error of a number."""
    if learned.is_floating_point():
        predicted = subject.population.predicted.learned(scores.squeeze(1))
        error: Scores = -(predicted - learned).square().cpu().numpy()
        return error
    true = scores.gather(1, learned[:, None]).squeeze(1)
    others = scores.scatter(1, learned[:, None], -math.inf).logsumexp(1)
    ratio: Scores = (true - others).cpu().numpy()
    return ratio


def _ratios(subject: Subject, pool: Pool, steps: Callable[[int], None]) -> Scores:
    """Return by how much the model is surer of images than models that did not see them."""
    sure, outside = [], []
    for number in range(1, subject.options.num_shadows + 1):
        members = _halves(subject, pool.positions, model=number)
        shadow = retrain(subject, _chosen(pool.positions, members), steps)
        sure.append(_scores(subject, shadow.model, pool.positions))
        outside.append(~np.concatenate(members))
    seen = np.ma.array(sure, mask=~np.array(outside))
    mean = seen.mean(0).filled(float(seen.mean()))
    spread = math.sqrt(float(((seen - mean) ** 2).mean())) or 1.0
    ratios: Scores = (_scores(subject, pool.model, pool.positions) - mean) / spread
    return ratios


def _history(subject: Subject, ledger: Sequence[Entry]) -> History | None:
    """Return what the site with the largest epsilon released, None where images are no units."""
    by_site: dict[str, list[Entry]] = {}
    for entry in ledger:
        if entry.event is not None and entry.unit in TWO_STEPS_APART:
            by_site.setdefault(entry.site or ALL_SITES, []).append(entry)
    found = [
        history((entry.event, 1) for entry in site if entry.event is not None)
        for site in by_site.values()
    ]
    return max(found, key=lambda one: epsilon(one, subject.delta), default=None)


def _findings(
    subject: Subject,
    name: str,
    scores: Scores,
    member: NDArray[np.bool_],
    allowed: History | None,
    error: float,
) -> list[Finding]:
    """Return area under the curve and true positive rate of an attack.

    Args:
        subject: of the audit.
        name: of the attack.
        scores: larger for members, (image,).
        member: which are, (image,).
        allowed: what the ledger has released of an image; None if it says nothing of one.
        error: probability of a false alarm.
    """
    members, others = scores[member], scores[~member]
    area = area_under_curve(members, others, 1 - CONFIDENCE)
    most = strongest_on_replaced(allowed) if allowed is not None else None
    largest = None if most is None else 1 - (1 - most.advantage) ** 2 / 2
    of = f"{len(members)} + {len(others)}"
    return [
        Finding(f"{name}, AUC", of, area.value, area.low, area.high, largest),
        _at_few_false_alarms(subject, name, members, others, allowed, error),
    ]


def _at_few_false_alarms(
    subject: Subject,
    name: str,
    members: Scores,
    others: Scores,
    allowed: History | None,
    error: float,
) -> Finding:
    """Return the true positive rate at about 1 % false ones, and what it comes to."""
    order = subject.streams.numpy("membership_threshold").permutation(len(others))
    choosing, trying = np.split(others[order], [len(others) // 2])
    threshold = np.quantile(choosing, 1 - FALSE_POSITIVE_RATE, method="higher")
    hits, false = int((members > threshold).sum()), int((trying > threshold).sum())
    sizes = len(members), len(trying)
    true_rate = clopper_pearson(hits, sizes[0], 1 - CONFIDENCE)
    false_rate = clopper_pearson(false, sizes[1], 1 - CONFIDENCE)
    alarm, claim, shown, ceiling = "", None, None, None
    if not _hides_others(subject, allowed):
        shown = _epsilon(true_rate.low, false_rate.high, subject.delta)
        ceiling = _epsilon(
            clopper_pearson(sizes[0], sizes[0], 1 - CONFIDENCE).low,
            clopper_pearson(0, sizes[1], 1 - CONFIDENCE).high,
            subject.delta,
        )
    if allowed is not None:
        sure = clopper_pearson(hits, sizes[0], error).low
        at = clopper_pearson(false, sizes[1], error).high
        most = strongest_on_replaced(allowed, false_positive_rate=at).true_positive_rate
        claim = strongest_on_replaced(allowed).true_positive_rate
        if sure > most:
            alarm = (
                f"{name} finds {rounded_down(sure, '.3f')} of the members at least, with "
                f"{rounded_up(at, '.3f')} false alarms at most, for which the ledger allows "
                f"{rounded_up(most, '.3f')}"
            )
    return Finding(
        f"{name}, TPR at 1 % FPR",
        f"{sizes[0]} + {sizes[1]}",
        true_rate.value,
        true_rate.low,
        true_rate.high,
        claim,
        shown,
        ceiling,
        alarm,
        f"the false positive rate was {false_rate.value:.4f} "
        f"({false_rate.low:.4f} to {false_rate.high:.4f})",
    )


def _epsilon(true_rate: float, false_rate: float, delta: float) -> float:
    """Return what epsilon must be: TPR <= e^(2 epsilon) FPR + (1 + e^epsilon) delta."""
    excess = max(true_rate - delta, 0.0)
    root = math.sqrt(delta**2 + 4 * false_rate * excess)
    return math.log(max(1.0, (root - delta) / (2 * false_rate)))
