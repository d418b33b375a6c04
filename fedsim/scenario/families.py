"""The families of parts that a scenario chooses from, built in or brought by other packages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import clients.objectives
import clients.personalisation
import clients.regularisers
import fedsim.adversaries
import fedsim.data.appearances
import fedsim.data.partition
import fedsim.data.sources
import fedsim.models
import fedsim.privacy
import strategies
from clients import optimizer
from fedsim.data import label_noise, normalisation, supervision
from fedsim.data.appearance import Appearance
from fedsim.data.resampled import Resampled
from fedsim.data.source import Source
from fedsim.fleet import round_policy
from fedsim.plugins import load, union
from fedsim.scenario import cohort
from fedsim.scenario.flower_strategy import FlowerStrategy

FAMILIES = {
    "sources": load("sources", fedsim.data.sources.BUILTIN, Source),
    "normalisations": load("normalisations", normalisation.BUILTIN, normalisation.Normalisation),
    "partitions": load(
        "partitions",
        (*fedsim.data.partition.BUILTIN, Resampled),
        fedsim.data.partition.Partition,
    ),
    "appearances": load("appearances", fedsim.data.appearances.BUILTIN, Appearance),
    "label_noises": load("label_noises", label_noise.BUILTIN, label_noise.LabelNoise),
    "supervisions": load("supervisions", supervision.BUILTIN, supervision.Supervision),
    "bag_draws": supervision.BAG_DRAWS,
    "label_privacies": supervision.LABEL_PRIVACIES,
    "adversaries": load("adversaries", fedsim.adversaries.BUILTIN, fedsim.adversaries.Adversary),
    "models": load("models", fedsim.models.BUILTIN, fedsim.models.Model),
    "objectives": load("objectives", clients.objectives.BUILTIN, clients.objectives.Objective),
    "regularisers": load(
        "regularisers", clients.regularisers.BUILTIN, clients.regularisers.Regulariser
    ),
    "personalisations": load(
        "personalisations",
        clients.personalisation.BUILTIN,
        clients.personalisation.Personalisation,
    ),
    "optimizers": load("optimizers", optimizer.BUILTIN, optimizer.Optimizer),
    "schedules": load("schedules", optimizer.SCHEDULES, optimizer.Schedule),
    "mechanisms": load("mechanisms", fedsim.privacy.BUILTIN, fedsim.privacy.Mechanism),
    "cohorts": load("cohorts", cohort.BUILTIN, cohort.Cohort),
    "round_policies": load("round_policies", round_policy.BUILTIN, round_policy.RoundPolicy),
    "strategies": load("strategies", (*strategies.BUILTIN, FlowerStrategy), strategies.Strategy),
    "server_optimizers": load(
        "server_optimizers", strategies.SERVER_OPTIMIZERS, strategies.ServerOptimizer
    ),
}
"""Family name -> its parts, in the order in which they are listed."""

if TYPE_CHECKING:
    from clients.objectives import Objective
    from clients.optimizer import Optimizer, Schedule
    from clients.personalisation import Personalisation
    from clients.regularisers import Regulariser
    from fedsim.adversaries import Adversary
    from fedsim.data.label_noise import LabelNoise
    from fedsim.data.normalisation import Normalisation
    from fedsim.data.partition import Partition
    from fedsim.data.supervision import Supervision
    from fedsim.fleet.round_policy import RoundPolicy
    from fedsim.models import Model
    from fedsim.privacy import Mechanism
    from fedsim.scenario.cohort import Cohort
    from strategies import ServerOptimizer, Strategy

    AnySource = Source
    AnyNormalisation = Normalisation
    AnyPartition = Partition | Resampled
    AnyAppearance = Appearance
    AnyLabelNoise = LabelNoise
    AnySupervision = Supervision
    AnyAdversary = Adversary
    AnyModel = Model
    AnyObjective = Objective
    AnyRegulariser = Regulariser
    AnyPersonalisation = Personalisation
    AnyOptimizer = Optimizer
    AnySchedule = Schedule
    AnyMechanism = Mechanism
    AnyCohort = Cohort
    AnyRoundPolicy = RoundPolicy
    AnyStrategy = Strategy | FlowerStrategy
    AnyServerOptimizer = ServerOptimizer
else:
    AnySource = union(FAMILIES["sources"])
    AnyNormalisation = union(FAMILIES["normalisations"])
    AnyPartition = union(FAMILIES["partitions"])
    AnyAppearance = union(FAMILIES["appearances"])
    AnyLabelNoise = union(FAMILIES["label_noises"])
    AnySupervision = union(FAMILIES["supervisions"])
    AnyAdversary = union(FAMILIES["adversaries"])
    AnyModel = union(FAMILIES["models"])
    AnyObjective = union(FAMILIES["objectives"])
    AnyRegulariser = union(FAMILIES["regularisers"])
    AnyPersonalisation = union(FAMILIES["personalisations"])
    AnyOptimizer = union(FAMILIES["optimizers"])
    AnySchedule = union(FAMILIES["schedules"])
    AnyMechanism = union(FAMILIES["mechanisms"])
    AnyCohort = union(FAMILIES["cohorts"])
    AnyRoundPolicy = union(FAMILIES["round_policies"])
    AnyStrategy = union(FAMILIES["strategies"])
    AnyServerOptimizer = union(FAMILIES["server_optimizers"])
