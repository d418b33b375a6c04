"""What must hold of a scenario whose training is private; see `fedsim.scenario.rules`.

Each rule is the way in which published federated learning lost its privacy, or a combination whose
cost is not accounted here.
"""

from __future__ import annotations

from collections.abc import Iterator

from clients.objectives.bag import AggregateObjective, InterpolatedBag
from fedsim.data.bag_draws import Similar
from fedsim.data.resampled import Resampled
from fedsim.data.source import PATIENT, Facts
from fedsim.data.supervision import InBags
from fedsim.fleet.round_policy import Synchronous
from fedsim.scenario import update_privacy_rules
from fedsim.scenario.flower_strategy import FlowerStrategy
from fedsim.scenario.messages import Problem
from fedsim.scenario.privacy import STAYS, unprotected
from fedsim.scenario.scenario import Scenario
from fedsim.scenario.supervision_rules import SAID, known
from strategies.q_fed_avg import START_LOSS


def broken(scenario: Scenario, facts: Facts) -> Iterator[Problem]:
    """Yield the rules that the privacy section of a scenario breaks."""
    if scenario.privacy is None:
        return
    yield from _noise(scenario)
    yield from _units(scenario, facts)
    if scenario.privacy.mechanism.clips == "gradients":
        yield from _gradients(scenario)
    else:
        yield from update_privacy_rules.broken(scenario)
    yield from _rounds(scenario)
    yield from _trials(scenario)
    yield from _releases(scenario)
    if scenario.privacy.strict:
        for item in unprotected(scenario):
            if item.asked_by is not None:
                yield Problem(
                    item.asked_by,
                    f"releases {item.what}, which privacy.strict forbids: {item.way_out} (it "
                    f"forbids what a key asks for; {STAYS} stay)",
                )


def _noise(scenario: Scenario) -> Iterator[Problem]:
    privacy = scenario.privacy
    assert privacy is not None
    noise, path = privacy.mechanism.noise_multiplier, ("privacy", "mechanism", "noise_multiplier")
    if noise == "auto" and privacy.budget is None:
        yield Problem(
            path,
            "auto is the noise that spends privacy.budget.epsilon in the whole run: give "
            "privacy.budget: {epsilon: ...}, or a number here",
        )
    if noise == 0 and privacy.budget is not None:
        yield Problem(
            path,
            "without noise the first round spends more than any budget: give noise, or leave "
            "privacy.budget out",
        )


def _units(scenario: Scenario, facts: Facts) -> Iterator[Problem]:
    """Who is hidden must be known."""
    assert scenario.privacy is not None
    if scenario.privacy.mechanism.unit == "patient" and PATIENT not in facts.columns:
        yield Problem(
            ("privacy", "mechanism", "kind"),
            "the data do not say whose images they are: give a patient column (images: a manifest "
            "with one, npz: columns: {patient: NAME}, synthetic: images_per_patient above 1), or "
            "hide single images with example_level",
        )
    if scenario.privacy.mechanism.unit == "bag":
        yield from _bags(scenario)


def _bags(scenario: Scenario) -> Iterator[Problem]:
    """What one bag gives must depend on nothing but this bag."""
    for kind, names in known(scenario).items():
        if kind != "bags":
            yield Problem(
                ("privacy", "mechanism", "kind"),
                f"hides whole bags, and {names[0]} has {SAID[kind]}: let every site know bags "
                "alone (population.supervision), or hide single images with example_level",
            )
    for number, part in enumerate(scenario.population.supervision):
        if not isinstance(part, InBags):
            continue
        if part.num_draws > 1:
            yield Problem(
                ("population", "supervision", number, "num_draws"),
                "bags that are drawn anew put an image into several units: set it to 1",
            )
        if isinstance(part.draw, Similar):
            yield Problem(
                ("population", "supervision", number, "draw"),
                "puts together what looks alike, so one image moves others into other bags: use "
                "random or grouped",
            )
    objective = scenario.client.objective
    if not isinstance(objective, AggregateObjective):
        yield Problem(
            ("client", "objective", "kind"),
            f"{objective.kind} may use more than the bag that it is shown: use bag, instance or "
            "interpolated_bag",
        )
    if getattr(scenario.privacy and scenario.privacy.mechanism, "num_augmentations", 1) > 1:
        yield Problem(
            ("privacy", "mechanism", "num_augmentations"),
            "a bag's gradient is formed once: set it to 1",
        )


def _gradients(scenario: Scenario) -> Iterator[Problem]:
    """The sum of clipped gradients must move by no more than C when one image becomes a blank."""
    client = scenario.client
    assert scenario.privacy is not None
    if client.objective.couples_examples and scenario.privacy.mechanism.unit != "bag":
        yield Problem(
            ("client", "objective"),
            f"this {client.objective.kind} makes the gradient of one image depend on others, so "
            "one image moves the clipped sum by more than clip_norm: use an objective that is a "
            "mean over images (cross_entropy without class_weights, margin with form: logits)",
        )
    regulariser = client.regulariser
    if regulariser is not None and (regulariser.needs_features or regulariser.couples_examples):
        yield Problem(
            ("client", "regulariser"),
            f"{regulariser.kind} looks at images, and what it adds to the gradient is neither "
            "clipped nor noised: use one of the parameters alone (proximal, dynamic, "
            "control_variates), or none",
        )
    if client.personalisation is not None and client.personalisation.tuning(client.plan):
        yield Problem(
            ("client", "personalisation"),
            f"{client.personalisation.kind} trains a model of each site anew before every "
            "evaluation, in the round or not, and every time would have to be paid for like a "
            "round: use private_parameters, or ditto, whose model is kept and paid for once, or "
            "leave it out",
        )
    averages = getattr(scenario.privacy and scenario.privacy.mechanism, "average_decay", None)
    if client.personalisation is not None and averages is not None:
        yield Problem(
            ("privacy", "mechanism", "average_decay"),
            "averages the global model, and sites are judged by models of their own: leave it out",
        )
    copies = getattr(scenario.privacy and scenario.privacy.mechanism, "num_augmentations", 1)
    if copies > 1 and not scenario.data.augmentation.changes_anything:
        yield Problem(
            ("privacy", "mechanism", "num_augmentations"),
            f"{copies} copies of an image would be equal: give data.augmentation, or 1 here",
        )
    if client.drop_last:
        yield Problem(
            ("client", "drop_last"),
            "batches are Poisson samples of about batch_size images: none is the last; set it to "
            "false",
        )
    yield from _devices(scenario)


def _devices(scenario: Scenario) -> Iterator[Problem]:
    """A device may be slow or away; how much its site does is what the ledger has."""
    for number, group in enumerate(scenario.population.devices):
        for key in ("batch_size", "epochs", "steps"):
            if getattr(group, key) is not None:
                yield Problem(
                    ("population", "devices", number, key),
                    "the ledger has the same steps for all sites, with samples of "
                    f"client.batch_size on average: leave {key} out here",
                )
        if group.precision != "fp32":
            yield Problem(
                ("population", "devices", number, "precision"),
                "gradients of single images are clipped and noised in fp32: leave it out",
            )
    if scenario.client.batch == "fit":
        yield Problem(
            ("client", "batch"),
            "gradients of single images are formed max_physical_batch at a time: leave it out, and "
            "set privacy.mechanism.max_physical_batch to what fits the smallest device",
        )


def _rounds(scenario: Scenario) -> Iterator[Problem]:
    if not isinstance(scenario.round_policy, Synchronous):
        yield Problem(
            ("round_policy",),
            f"under {scenario.round_policy.kind} sites also work for updates that come too late or "
            "stop early, and what those release is not accounted: use {kind: synchronous}",
        )
    if isinstance(scenario.population.partition, Resampled):
        yield Problem(
            ("population", "partition"),
            "sites of the partition resampled may draw the same image, so that what hides it at "
            "one of them does not hide it at the others (its epsilon would be the sum over those "
            "sites): choose a partition that divides the images",
        )


def _trials(scenario: Scenario) -> Iterator[Problem]:
    objective = scenario.client.objective
    if isinstance(objective, InterpolatedBag) and objective.rho == "auto":
        yield Problem(
            ("client", "objective", "rho"),
            "is chosen in trials before the run, whose releases no ledger has: give a number",
        )


def _releases(scenario: Scenario) -> Iterator[Problem]:
    """Nothing that training images decide may steer the server beside the noisy models."""
    strategy = scenario.strategy
    by_losses = (
        strategy.name == "QFedAvg"
        if isinstance(strategy, FlowerStrategy)
        else START_LOSS in strategy.reports
    )
    if by_losses:
        yield Problem(
            ("strategy",),
            "weights sites by their losses on training images, which are released without noise: "
            "use weighted_mean",
        )
