"""How examples are spread over sites.

>>> labels = {"train": np.repeat([0, 1], 50), "test": np.repeat([0, 1], 10)}
>>> sites = Dirichlet(alpha=0.3).split(labels, 3, 2, np.random.default_rng(0))
>>> sum(len(site["train"]) for site in sites), min(len(site["train"]) for site in sites) >= 8
(100, True)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, PositiveInt

from fedsim.data import names
from fedsim.data.apportioning import (
    FloatArray,
    IntArray,
    apportion,
    as_trained,
    deal,
    fill,
)
from fedsim.data.site_names import NumberedSites
from fedsim.data.source import SITE, Columns, Facts, in_natural_order
from fedsim.errors import DataError
from fedsim.plugins import Part

FITTING_STEPS = 100
LARGEST_ALPHA = 1e6
"""Here a Dirichlet draw differs from equal shares by a thousandth of a share."""

NO_COLUMNS: Columns = MappingProxyType({})

FETS2022 = (
    *(511, 382, 47, 35, 35, 34, 33, 30, 22, 15, 14, 13, 12, 11),
    *(9, 8, 8, 7, 6, 6, 5, 4, 4),
)
"""Subjects at the 23 institutions of the FeTS challenge 2022 (Pati et al., 2021, arXiv:2105.05874;
its first partition)."""


class Partition(Part, ABC):
    """A rule that gives every example to exactly one site.

    Where the data say whose image each is, what is given away are patients, each with all of its
    images and with the class that most of them show; "example" then means patient below.

    Args:
        min_examples: of the training split (the first one) that every site gets at least.
    """

    kind: str
    min_examples: PositiveInt = 8

    def site_names(self, facts: Facts) -> Sequence[str] | None:
        """Return the names of the sites if this rule decides them, None if the scenario does.

        Raises:
            DataError: if the data do not name sites as the rule needs them.
        """
        return None

    @abstractmethod
    def split(
        self,
        labels: Mapping[str, IntArray],
        num_sites: int,
        num_classes: int,
        rng: np.random.Generator,
        columns: Columns = NO_COLUMNS,
    ) -> list[dict[str, IntArray]]:
        """Return for each site and split the sorted indices of its examples.

        The result is a function of labels and columns, in their order, and of the state of `rng`
        alone.

        Args:
            labels: for each split, the training split first, (n,), each in [0, num_classes).
            num_sites: how many sites to form.
            num_classes: of the task, also those without examples.
            rng: what all randomness comes from.
            columns: what else is known of the examples: column -> split -> (n,), text.

        Raises:
            DataError: if there are fewer training examples than the rule needs.
        """


class Proportional(Partition):
    """A rule that says which share of each class goes to which site.

    Every split is divided by the same shares, so a site's validation and test examples look like
    its training examples. Within a class the examples are shuffled before they are cut, so no
    order of the source (patient, hospital, date) reaches the sites. A site that would have fewer
    than `min_examples` for training gets examples from the largest site, one by one and
    preferably of its own classes.

    The other splits follow: these examples count into their shares, and a class of which a site
    has no training example stays away from it there too. Only then, where a split has as many
    examples as there are sites, each site without any gets one in the same way.
    """

    @abstractmethod
    def proportions(
        self, num_sites: int, num_examples: IntArray, rng: np.random.Generator
    ) -> FloatArray:
        """Return the share of each class that each site gets, (site, class), columns sum to 1.

        Args:
            num_sites: how many sites.
            num_examples: of the training split per class, (class,).
            rng: what all randomness comes from.
        """

    def split(
        self,
        labels: Mapping[str, IntArray],
        num_sites: int,
        num_classes: int,
        rng: np.random.Generator,
        columns: Columns = NO_COLUMNS,
    ) -> list[dict[str, IntArray]]:
        """See `Partition.split`."""
        first = next(iter(labels.values()))
        shares = self.proportions(num_sites, np.bincount(first, minlength=num_classes), rng)
        sites: list[dict[str, IntArray]] = [{} for _ in range(num_sites)]
        for position, (split, split_labels) in enumerate(labels.items()):
            num_examples = np.bincount(split_labels, minlength=num_classes)
            least = self.min_examples if position == 0 else min(1, len(split_labels) // num_sites)
            if len(split_labels) < num_sites * least:
                raise DataError(
                    f"{num_sites} sites of at least {least} examples each need "
                    f"{num_sites * least}, but {split} has {len(split_labels)}: "
                    "ask for fewer sites or a smaller partition.min_examples"
                )
            counts = apportion(shares, num_examples)
            filled = fill(counts, shares, least, rng)
            if position == 0:
                shares = as_trained(shares, counts, filled)
            for site, indices in zip(sites, deal(split_labels, filled, rng), strict=True):
                site[split] = indices
        return sites


class Iid(Proportional):
    """Every site gets the same number of examples of every class, to within one."""

    kind: Literal["iid"] = "iid"

    def proportions(
        self, num_sites: int, num_examples: IntArray, rng: np.random.Generator
    ) -> FloatArray:
        """Return equal shares."""
        return np.full((num_sites, len(num_examples)), 1 / num_sites)


class Dirichlet(Proportional):
    """Label skew: each class is divided over the sites by a symmetric Dirichlet draw of its own.

    Sources: Yurochkin et al., ICML 2019; Li et al., ICDE 2022 ("distribution-based label
    imbalance"). Sizes differ too, as no site's total is held fixed. A share has mean 1/m and
    variance (1/m)(1 - 1/m)/(m alpha + 1) over m sites.

    Args:
        alpha: concentration; 0.1 is severe skew, 1 moderate, 100 nearly iid.
    """

    kind: Literal["dirichlet"] = "dirichlet"
    alpha: float = Field(gt=0, le=LARGEST_ALPHA)

    def proportions(
        self, num_sites: int, num_examples: IntArray, rng: np.random.Generator
    ) -> FloatArray:
        """Return one draw per class."""
        return rng.dirichlet(np.full(num_sites, self.alpha), size=len(num_examples)).T


class Quantity(Proportional):
    """Quantity skew: sites differ in size by a symmetric Dirichlet draw, not in class mix.

    Source: Li et al., ICDE 2022 ("quantity skew").

    Args:
        alpha: concentration of the sizes; small is very unequal, 100 nearly equal.
    """

    kind: Literal["quantity"] = "quantity"
    alpha: float = Field(default=1.0, gt=0, le=LARGEST_ALPHA)

    def proportions(
        self, num_sites: int, num_examples: IntArray, rng: np.random.Generator
    ) -> FloatArray:
        """Return one draw, the same for every class."""
        sizes = rng.dirichlet(np.full(num_sites, self.alpha))
        return np.repeat(sizes[:, None], len(num_examples), axis=1)


class Shards(Proportional):
    """Each class is cut into equal shards, and every site gets one shard of each of its classes.

    Source: Li et al., ICDE 2022 ("quantity-based label imbalance", #C = k), after the shards of
    McMahan et al., AISTATS 2017. Every class is held by as many sites as any other, to within one.

    Args:
        classes_per_site: how many classes a site holds; 2 is severe.
    """

    kind: Literal["shards"] = "shards"
    classes_per_site: PositiveInt = 2

    def proportions(
        self, num_sites: int, num_examples: IntArray, rng: np.random.Generator
    ) -> FloatArray:
        """Return equal shares of a class for the sites that hold it."""
        k, num_classes = self.classes_per_site, len(num_examples)
        if not num_classes <= num_sites * k <= num_sites * num_classes:
            raise DataError(
                f"partition.classes_per_site: {num_sites} sites of {k} classes each cannot hold "
                f"the {num_classes} classes of the task: choose between "
                f"{-(-num_classes // num_sites)} and {num_classes}"
            )
        dealt = rng.permutation(num_classes)[np.arange(num_sites * k) % num_classes]
        held = np.zeros((num_sites, num_classes))
        np.put_along_axis(held, rng.permutation(dealt.reshape(num_sites, k)), 1, axis=1)
        shares: FloatArray = held / held.sum(axis=0)
        return shares


class Sizes(Proportional):
    """Quantity skew from given sizes, such as those of a real federation.

    The sizes are relative: all examples are given away, in these proportions, before a site below
    `min_examples` is helped up. With `alpha` the class mix differs too, at the same sizes.

    Args:
        sizes: one number per site, or the preset fets2022 (23 institutions, 511 to 4 subjects).
        alpha: concentration of each site's class mix; equal mixes if not given.
    """

    kind: Literal["sizes"] = "sizes"
    sizes: (
        Literal["fets2022"]
        | Annotated[
            tuple[Annotated[float, Field(gt=0, le=1e9)], ...], Field(min_length=1, max_length=10**6)
        ]
    )
    alpha: float | None = Field(default=None, gt=0, le=LARGEST_ALPHA)

    @property
    def numbers(self) -> FloatArray:
        """The sizes, (site,)."""
        return np.array(FETS2022 if isinstance(self.sizes, str) else self.sizes, np.float64)

    def site_names(self, facts: Facts) -> Sequence[str]:
        """Return a name per size."""
        return NumberedSites(len(self.numbers))

    def proportions(
        self, num_sites: int, num_examples: IntArray, rng: np.random.Generator
    ) -> FloatArray:
        """Return the relative sizes, the same for every class unless mixes are drawn.

        Drawn mixes are scaled to the sizes and to the number of examples of each class in turn
        (iterative proportional fitting), for both can hold at once only approximately otherwise.
        """
        sizes = self.numbers / self.numbers.sum()
        if self.alpha is None:
            return np.repeat(sizes[:, None], len(num_examples), axis=1)
        mixes = rng.dirichlet(np.full(len(num_examples), self.alpha), size=num_sites)
        shares: FloatArray = np.maximum(mixes, 1e-12) * sizes[:, None]
        weights = np.maximum(num_examples, 1) / np.maximum(num_examples, 1).sum()
        for _ in range(FITTING_STEPS):
            shares *= (sizes / (shares @ weights))[:, None]
            shares /= shares.sum(axis=0)
        return shares


class ByColumn(Partition):
    """The sites that the data name: one for each value of a column.

    Args:
        column: `site`, or another column that the source has, such as scanner.
        min_examples: of the training split that every site must have.
        patients: whether a patient may have images at several sites. That is refused if not asked
            for, as most often it is a name given twice; it needs splits of the data's own, each
            patient in one of them, or a site would train on whom another one tests.
    """

    kind: Literal["by_column"] = "by_column"
    column: str = SITE
    min_examples: PositiveInt = 1
    patients: Literal["at_one_site", "at_any_sites"] = Field(
        default="at_one_site",
        description="a patient with images at several sites is refused, or may be "
        "(held_out: official)",
    )

    def site_names(self, facts: Facts) -> tuple[str, ...]:
        """Return the values of the column."""
        if self.column not in facts.columns:
            there = ", ".join(facts.columns) or "no column at all"
            raise DataError(
                f"partition.column: the data do not say the {self.column!r} of an image; "
                f"they have {there}"
            )
        found = names.checked(facts.columns[self.column], f"partition.column: {self.column}")
        if "" in found:
            raise DataError(f"partition.column: some images have no {self.column!r}: fill it in")
        return found

    def split(
        self,
        labels: Mapping[str, IntArray],
        num_sites: int,
        num_classes: int,
        rng: np.random.Generator,
        columns: Columns = NO_COLUMNS,
    ) -> list[dict[str, IntArray]]:
        """See `Partition.split`; nothing is random."""
        values = columns[self.column]
        names = in_natural_order(str(v) for split in labels for v in np.unique(values[split]))
        if len(names) != num_sites:
            raise DataError(
                f"partition.column: {num_sites} sites, but images of {len(names)} values of "
                f"{self.column!r}: a value has no image"
            )
        first = next(iter(labels))
        if small := [n for n in names if np.sum(values[first] == n) < self.min_examples]:
            raise DataError(
                f"partition.min_examples: fewer than {self.min_examples} examples of {first} at "
                f"{', '.join(small)}: ask for fewer, or leave these sites out of the data"
            )
        return [
            {split: np.flatnonzero(values[split] == name) for split in labels} for name in names
        ]


BUILTIN: tuple[type[Partition], ...] = (Iid, Dirichlet, Quantity, Sizes, Shards, ByColumn)
