"""The contract of a study file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, model_validator

from fedsim.plugins import Part

OVERRIDES = "key path of the scenario -> its value, in place of the base"
Seed = Annotated[int, Field(ge=0)]
Bound = Annotated[float, Field(ge=-1e100, le=1e100)]


class Range(Part):
    """An interval that is searched; whole numbers where the scenario takes nothing else."""

    low: Bound
    high: Bound
    scale: Literal["linear", "log"] = Field(
        default="linear", description="log: every factor is searched equally, not every difference"
    )

    @model_validator(mode="after")
    def _ascending(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got {self.low:g} and {self.high:g}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError("with scale log, low must be above 0")
        return self


Space = Annotated[list[Any], Field(min_length=1)] | Range


class Method(Part):
    """What is compared: keys of the scenario that belong together, and what of them is tuned."""

    description: str = ""
    set: dict[str, Any] = Field(default={}, description=OVERRIDES)
    without: list[str] = Field(
        default=[],
        description="keys under `vary` that mean nothing to the method; settings that differ in "
        "these alone share its runs",
    )
    tune: dict[str, Space] = Field(
        default={},
        description="key path -> values to choose from, or {low, high, scale}; the first trial is "
        "the method as it is set",
    )


class Tuning(Part):
    """How every method gets its values: trials on seeds of their own, judged by validation."""

    trials: int = Field(
        gt=0, le=1_000, description="of each method in each setting, the method as it is set first"
    )
    on: Literal["validation"] = Field(
        default="validation", description="the images that decide; never those of the test"
    )
    metric: str | None = Field(
        default=None,
        description="that decides; default: the primary one. Where sites "
        "know bags alone, it is bag_loss",
    )
    seeds: list[Seed] = Field(
        default=[1000], min_length=1, description="none of them a seed of the study"
    )


class Primary(Part):
    """The question in numbers, fixed before the first run."""

    metric: str = Field(description="one of evaluation.metrics")
    split: Literal["test"] = "test"
    pooled: bool = Field(
        default=True,
        description="over the test images of all sites together; false: mean over sites with "
        "enough of every class, in tuning too. The target is always of pooled validation images",
    )
    model: Literal["final", "best"] = Field(
        default="final", description="of the last round, or of the best one on validation images"
    )
    reference: str = Field(description="the method that the others are compared to")
    smallest_difference_of_interest: float = Field(
        gt=0, description="of the metric; smaller ones would change nothing for anybody"
    )
    confirmatory: list[str] | None = Field(
        default=None,
        min_length=1,
        exclude_if=lambda names: names is None,
        description="methods that are tested against the reference; default: all others. The rest "
        "is described, with intervals that are not corrected, and costs these no power",
    )


class Study(Part):
    """Methods compared in settings over seeds, all from one base scenario."""

    version: Literal[1] = Field(description="version of this format")
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=80,
        description="at most 80 letters, digits, `.`, `_` and `-`, the first no sign",
    )
    question: str = Field(min_length=1, description="that the study answers, as a sentence")
    base: str | dict[str, Any] = Field(
        description="scenario file, relative to this one, or the scenario itself"
    )
    set: dict[str, Any] = Field(default={}, description=OVERRIDES)
    primary: Primary
    methods: dict[str, Method] = Field(description="name -> what it sets and tunes; at least two")
    vary: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        default={},
        description="key path of the scenario -> values; every combination is a setting in which "
        "all methods are compared",
    )
    tune: Tuning | None = Field(default=None, description="default: every method as it is set")
    seeds: Annotated[int, Field(gt=0, le=10_000)] | Annotated[list[Seed], Field(min_length=1)] = (
        Field(description="a number n for the seeds 0 to n - 1, or a list of seeds")
    )
    target: FiniteFloat | None = Field(
        default=None,
        description="value of the primary metric on the validation images of all sites together; "
        "the rounds, bytes and virtual seconds until then are reported",
    )
    folder: str | None = Field(
        default=None, description="that files are relative to; default: that of this file"
    )

    @property
    def all_seeds(self) -> list[int]:
        """The seeds of the comparison, one by one."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds
