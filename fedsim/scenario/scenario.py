"""The sections of a scenario and the scenario itself.

Everything that may change results or privacy is here; how it is run (device, output) is not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from clients.augmentation import Augmentation
from clients.metrics import Task
from clients.objectives import CrossEntropy, SquaredError
from clients.optimizer import Constant, Sgd
from clients.targets import CLASSES, Quantity, Target
from clients.training import Plan
from fedsim.data.names import Name
from fedsim.data.normalisation import Unit
from fedsim.data.partition import Iid
from fedsim.data.site_names import NumberedSites
from fedsim.data.source import Split
from fedsim.data.supervision import InBags, Supervision
from fedsim.fleet.device import DeviceGroup
from fedsim.fleet.outage import Outage
from fedsim.fleet.round_policy import Synchronous
from fedsim.location import DIGEST
from fedsim.models import SmallCnn
from fedsim.plugins import Part
from fedsim.scenario.cohort import AllSites
from fedsim.scenario.families import (
    AnyAdversary,
    AnyAppearance,
    AnyCohort,
    AnyLabelNoise,
    AnyModel,
    AnyNormalisation,
    AnyObjective,
    AnyOptimizer,
    AnyPartition,
    AnyPersonalisation,
    AnyRegulariser,
    AnyRoundPolicy,
    AnySchedule,
    AnyServerOptimizer,
    AnySource,
    AnyStrategy,
    AnySupervision,
)
from fedsim.scenario.privacy import Privacy
from strategies import WeightedMean

Share = Annotated[float, Field(gt=0, lt=1)]


class Data(Part):
    """Which images, which labels, and what the network sees of them."""

    source: AnySource = Field(description="where images and labels come from")
    task: Task = Field(
        description="what is predicted; ordinal = grades in ascending order, regression = the real "
        "number `target`"
    )
    target: str | None = Field(
        default=None,
        description="regression: name of the real number, one of the source's `targets`; classes "
        "then only decide who gets which examples",
    )
    target_range: Annotated[tuple[float, ...], Field(min_length=2, max_length=2)] | None = Field(
        default=None,
        description="regression: public constants; what is learned is 0 at the first and 1 at the "
        "second (numbers may lie outside); default: 0 and 1",
    )
    label_map: dict[int, int] | None = Field(
        default=None, description="class of the source -> class of the task; default: unchanged"
    )
    class_names: tuple[Name, ...] | None = Field(
        default=None, description="names of the task's classes; default: the source's"
    )
    positive_class: int = Field(default=1, ge=0, description="binary tasks: the disease")
    normalisation: AnyNormalisation = Unit()
    augmentation: Augmentation = Augmentation()

    @field_validator("target_range")
    @classmethod
    def _ascending(cls, bounds: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError(f"expected a lower and a higher number, got {bounds[0]}, {bounds[1]}")
        return bounds

    @property
    def predicted(self) -> Target:
        """What the network says of an image."""
        if self.task != "regression":
            return CLASSES
        return Quantity(*self.target_range) if self.target_range else Quantity()

    @property
    def num_outputs(self) -> int:
        """How many outputs the network has: one per class, or one for a real number."""
        return 1 if self.task == "regression" else len(self.classes)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the task's classes, in the order of their labels."""
        source = self.source.facts().class_names
        if self.class_names is not None:
            return self.class_names
        if self.label_map is None:
            return source
        merged: dict[int, list[str]] = {}
        for before, after in sorted(self.label_map.items()):
            merged.setdefault(after, []).append(source[before])
        return tuple(" + ".join(names) for _, names in sorted(merged.items()))


class HeldOut(Part):
    """Shares of every site's examples that are kept from training, stratified by class.

    Where sites draw theirs from a pool: shares of all examples, which the server holds.
    """

    validation: float = Field(default=0.15, gt=0, lt=1, description="share of the site")
    test: Share | Literal["official"] = Field(
        default=0.2, description="share of the site, or `official` for the publisher's test images"
    )

    @property
    def shares(self) -> dict[Split, float]:
        """The splits that are made here, with their shares."""
        if self.test == "official":
            return {"validation": self.validation}
        return {"validation": self.validation, "test": self.test}

    @model_validator(mode="after")
    def _leave_something(self) -> HeldOut:
        if sum(self.shares.values()) >= 1:
            raise ValueError("validation and test together must leave examples for training")
        return self


class Sites(Part):
    """How many sites there are, who holds which examples and how their images look."""

    num_sites: int | None = Field(
        default=None,
        gt=0,
        le=1_000_000_000,
        description="hospitals; leave it out where the partition decides",
    )
    partition: AnyPartition = Iid()
    held_out: Literal["official"] | HeldOut = Field(
        default=HeldOut(), description="shares per site, or `official` for the publisher's splits"
    )
    appearance: AnyAppearance | None = Field(
        default=None, description="scanner-like shift per site; default: none"
    )
    label_noise: tuple[AnyLabelNoise, ...] = Field(
        default=(), description="mistakes in training labels, one after the other; default: none"
    )
    supervision: tuple[AnySupervision, ...] = Field(
        default=(),
        description="what sites know of their labels: each, aggregates of bags, or nothing; "
        "default: each",
    )
    adversaries: tuple[AnyAdversary, ...] = Field(
        default=(),
        description="sites that attack the training; one that is named several times does one "
        "after the other; default: none",
    )
    holdout_sites: tuple[str, ...] = Field(
        default=(),
        description="names of sites that never train and are tested on as a whole; "
        "`fedsim run --leave-one-site-out` holds out each in turn",
    )
    devices: tuple[DeviceGroup, ...] = Field(
        default=(), description="what the sites run on; without them there is no virtual clock"
    )
    outages: tuple[Outage, ...] = Field(
        default=(), description="rounds in which sites are not there; default: none"
    )


class Client(Part):
    """What a site does in a round."""

    epochs: int | None = Field(default=None, gt=0, description="passes over the training examples")
    steps: int | None = Field(default=None, gt=0, description="optimiser steps, instead of epochs")
    batch_size: int = Field(gt=0, description="examples per optimiser step")
    drop_last: bool = Field(default=False, description="leave out a smaller last batch")
    batch: Literal["whole", "fit"] = Field(
        default="whole",
        description="where a site's device cannot hold a batch: refuse, or add up gradients over "
        "parts of it that fit",
    )
    optimizer: AnyOptimizer = Sgd(learning_rate=0.05)
    schedule: AnySchedule = Constant()
    objective: AnyObjective = Field(
        default=CrossEntropy(),
        description="what is minimised; of a regression, by default squared_error",
    )
    regulariser: AnyRegulariser | None = Field(
        default=None, description="added to the objective against the drift of sites; default: none"
    )
    personalisation: AnyPersonalisation | None = Field(
        default=None, description="a model for each site, with which it is evaluated; default: none"
    )

    @model_validator(mode="after")
    def _epochs_or_steps(self) -> Client:
        if self.epochs is None and self.steps is None:
            raise ValueError("epochs or steps is required: how long a site trains in a round")
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give epochs or steps, not both; take one away or set it to null")
        return self

    @property
    def remembers(self) -> bool:
        """Whether a site keeps something from one of its rounds to the next."""
        parts = (self.regulariser, self.personalisation)
        return any(part is not None and part.remembers for part in parts)

    @property
    def looks_at_network(self) -> bool:
        """Whether something here fits some networks alone."""
        features = self.regulariser is not None and self.regulariser.needs_features
        return features or self.personalisation is not None

    @property
    def plan(self) -> Plan:
        """How many batches of which size."""
        return Plan(self.batch_size, self.epochs, self.steps, self.drop_last)


class External(Part):
    """A test set from elsewhere, which no site holds."""

    name: Name = Field(min_length=1, max_length=80, description="as tables and figures call it")
    source: AnySource = Field(description="images and labels, all of which are used")
    label_map: dict[int, int] | None = Field(
        default=None, description="class of this source -> class of the task; default: unchanged"
    )


class Evaluation(Part):
    """When the global model is evaluated, by what, and what chooses the best round."""

    every: int = Field(default=1, gt=0, description="rounds; round 0 and the last are always")
    metrics: tuple[str, ...] = Field(
        default=("auroc", "balanced_accuracy", "loss"),
        min_length=1,
        description="by which models are judged; of a regression, by default rmse, mae, r2 and "
        "spearman",
    )
    select_by: str = Field(
        default="auroc",
        description="metric that chooses the best round, on validation images; of a regression, "
        "by default rmse",
    )
    loss_decomposition: bool = Field(
        default=True, description="FedLD's three terms, estimated on training images"
    )
    min_per_class: int = Field(
        default=5,
        ge=0,
        description="test images of every class (of a regression: of all together) that a site "
        "needs to count for mean, spread, gap and worst site",
    )
    num_resamples: int = Field(
        default=400, ge=0, le=100_000, description="of the bootstrap intervals; 0 for none"
    )
    external: tuple[External, ...] = Field(
        default=(), description="test sets from elsewhere; default: none"
    )


REGRESSION: Mapping[str, Mapping[str, Any]] = {
    "client": {"objective": SquaredError()},
    "evaluation": {"metrics": ("rmse", "mae", "r2", "spearman"), "select_by": "rmse"},
}
"""Section -> defaults in a regression, where they differ."""
OF_NUMBERS = "mean"
"""What bags tell of a real number."""


def _of_numbers(supervision: Supervision) -> Supervision:
    """Return what sites know of a real number, where its author left open what bags tell."""
    if not isinstance(supervision, InBags) or "response" in supervision.model_fields_set:
        return supervision
    return supervision.model_copy(update={"response": OF_NUMBERS})


class Scenario(Part):
    """A whole federated study."""

    version: Literal[1] = Field(description="version of this format")
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=80,
        description="at most 80 letters, digits, `.`, `_` and `-`, the first no sign",
    )
    description: str = ""
    seed: int = Field(default=0, ge=0, description="decides all that is random")
    rounds: int = Field(
        gt=0, le=1_000_000, description="of training; round 0 evaluates the initial model"
    )
    data: Data
    population: Sites
    model: AnyModel = SmallCnn()
    client: Client
    privacy: Privacy | None = Field(
        default=None, description="how training hides who was trained on; default: not at all"
    )
    cohort: AnyCohort = AllSites()
    round_policy: AnyRoundPolicy = Synchronous()
    strategy: AnyStrategy = WeightedMean()
    server_optimizer: AnyServerOptimizer | None = Field(
        default=None, description="acts on the aggregate update; default: add it as it is"
    )
    evaluation: Evaluation = Evaluation()
    on_client_failure: Literal["abort", "drop"] = Field(
        default="abort",
        description="what follows if a site fails to train: stop, or go on without it in this "
        "round, which is recorded and ends the promise of equal bits",
    )
    baselines: tuple[Literal["pooled", "local", "unshrunk"], ...] = Field(
        default=(),
        description="yardsticks: one training on the images of all sites together; each site "
        "alone; the run's own predictions with the shrinkage of the instance loss taken back",
    )

    @model_validator(mode="after")
    def _suit_task(self) -> Scenario:
        """Give what the author of a regression leaves open the defaults of a regression."""
        if self.data.task == "regression":
            for section, defaults in REGRESSION.items():
                part = getattr(self, section)
                left = {k: v for k, v in defaults.items() if k not in part.model_fields_set}
                self.__dict__[section] = part.model_copy(update=left)
            known = tuple(map(_of_numbers, self.population.supervision))
            self.__dict__["population"] = self.population.model_copy(update={"supervision": known})
        return self

    @property
    def site_names(self) -> Sequence[str]:
        """The names of all sites, also of those that are held out.

        Raises:
            DataError: if the data do not name them as the partition needs it.
        """
        sites = self.population
        names = sites.partition.site_names(self.data.source.facts())
        return names if names is not None else NumberedSites(sites.num_sites or 1)

    def resolved(self) -> dict[str, Any]:
        """Return the scenario with every default written out, as plain data."""
        return self.model_dump(mode="json")

    @property
    def digest(self) -> str:
        """SHA-256 of everything that may change results: all but name and description.

        Of files it takes the name alone; a run's record has the checksums of what they hold.
        """
        written = self.model_dump(mode="json", context={DIGEST: True})
        content = {k: v for k, v in written.items() if k not in ("name", "description")}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
