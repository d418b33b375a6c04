"""Sites without number: each draws its training examples from a common pool by its own stream.

>>> pool = [np.arange(0, 30), np.arange(30, 40)]
>>> chosen = Resampled(examples_per_site=4).draw(pool, np.random.default_rng(0))
>>> len(chosen), len(set(chosen.tolist())), bool(chosen.max() < 40)
(4, 4, True)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, field_validator

from fedsim.data.source import Facts
from fedsim.plugins import Part

IntArray = NDArray[np.int64]


class Resampled(Part):
    """Every site draws its training examples from a common pool: any number of sites.

    A population as of many devices, for data that cannot be divided so finely. Sites are drawn when
    they are looked at and cost nothing before. **They share examples**, so they are less different
    from each other than as many hospitals would be. Validation and test examples, which no site
    draws, are held by the server. Where patients are known, "example" means patient, with all of
    their images.

    A site draws its number n of examples, then without `alpha` any n of the pool alike, none twice.
    With `alpha` it draws a class mix q ~ Dirichlet(alpha p), p the shares of the classes in the
    pool, then counts ~ Multinomial(n, q), then that many of each class, none twice; what the pool
    lacks of a class is drawn from what else it has. While it lacks nothing, the share of a class
    at a site has mean p_c and variance p_c (1 - p_c) (1 + (n - 1) / (alpha + 1)) / n.

    Source: Hsu et al., 2019, arXiv:1909.06335 (their alpha, with p as their prior).

    Args:
        examples_per_site: training examples of a site; or two numbers, from which to which each
            site draws its own, all alike.
        alpha: concentration of each site's class mix: 0.1 is nearly one class per site, 100 nearly
            the mix of the pool; drawn without regard to classes if not given.
    """

    kind: Literal["resampled"] = "resampled"
    examples_per_site: (
        PositiveInt | Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=2)]
    )
    alpha: float | None = Field(default=None, gt=0, le=1e6)

    @field_validator("examples_per_site")
    @classmethod
    def _ascending(cls, given: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if isinstance(given, tuple) and given[0] > given[1]:
            raise ValueError(f"expected the lower number first, got {list(given)}")
        return given

    @property
    def bounds(self) -> tuple[int, int]:
        """Fewest and most training examples of a site."""
        given = self.examples_per_site
        return (given[0], given[1]) if isinstance(given, tuple) else (given, given)

    def site_names(self, facts: Facts) -> None:
        """Return None: the scenario says how many sites there are."""

    def draw(self, by_class: Sequence[IntArray], rng: np.random.Generator) -> IntArray:
        """Return what one site draws, in no order.

        Args:
            by_class: for each class the examples of the pool, (n,).
            rng: the site's own stream.
        """
        available = np.array([len(members) for members in by_class])
        num = int(rng.integers(*self.bounds, endpoint=True))
        counts = np.zeros_like(available)
        if self.alpha is not None:
            mix = rng.dirichlet(self.alpha * available / available.sum())
            counts = np.minimum(rng.multinomial(num, mix), available)
        counts += rng.multivariate_hypergeometric(available - counts, num - counts.sum())
        return np.concatenate(
            [
                rng.choice(members, count, replace=False, shuffle=False)
                for members, count in zip(by_class, counts, strict=True)
            ]
        )
