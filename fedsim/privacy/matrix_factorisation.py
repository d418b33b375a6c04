"""Noise that rounds have in common: what one round adds, later ones partly take away.

Round t releases the clipped sum x_t with noise w_t, and the model is the sum of all rounds so far.
With a lower-triangular strategy matrix C and independent z_1, z_2, ..., let w = C^-1 z. Then

    C (x + w) = C x + z

is a Gaussian mechanism of C x, also where x_t depends on what was released before (Denisov et al.,
NeurIPS 2022, theorem 2.1), and the sum of the first t rounds has less noise than if w were
independent. Columns of C have norm 1 at most, and those of rounds `separation` or more apart share
no row. So a site that takes part k times, never twice within `separation` rounds, moves C x by
sqrt(k) C at most: each time it spends what one Gaussian mechanism with the noise of z does.

z_t is drawn for a round, whatever the number of rounds, so a run that goes on makes w_t again from
the streams of all rounds up to t and stores no noise.

Sources: with the classes. Noise is counted in units of the sensitivity, so that of a tree is less
by the root of its depth than the number which its paper gives, that of a node.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from fedsim.plugins import Part

if TYPE_CHECKING:
    from torch import Tensor


class Factorisation(Part, ABC):
    """A strategy matrix C."""

    kind: str

    @abstractmethod
    def correlated(self, independent: Iterable[Tensor], separation: int) -> Iterator[Tensor]:
        """Yield w_1, w_2, ... of z_1, z_2, ..., each as soon as its z is there.

        Args:
            independent: z_t, all of one shape; none is changed.
            separation: no site takes part twice within so many rounds.
        """

    def suits(self, separation: int) -> bool:
        """Return whether columns of rounds that are so far apart share no row."""
        return True


class Banded(Factorisation):
    """A Toeplitz matrix whose first `bands` diagonals are not zero.

    Its coefficients are those of (1 - x)^(-1/2), the square root of the matrix of prefix sums, cut
    off after so many and divided by their norm. One band is independent noise; each more keeps one
    noise in memory, as large as the model in double precision.

    Source: Kalinin and Lampert, NeurIPS 2024; privacy with several participations: Choquette-Choo
    et al., NeurIPS 2023. Difference: the last columns are not made longer to be of norm 1, so that
    the noise of a round does not depend on how many follow.
    """

    kind: Literal["banded"] = "banded"
    bands: Literal["auto"] | Annotated[int, Field(gt=0)] = Field(
        default="auto",
        description="rounds that share noise; auto: as many as lie between two of a site",
    )

    reference: ClassVar[str] = """@inproceedings{kalinin2024banded,
  title = {Banded Square Root Matrix Factorization for Differentially Private Model Training},
  author = {Kalinin, Nikita P. and Lampert, Christoph H.},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024},
}"""

    def correlated(self, independent: Iterable[Tensor], separation: int) -> Iterator[Tensor]:
        """Solve C w = z row by row, keeping the last bands - 1 of w."""
        first, *others = square_root(separation if self.bands == "auto" else self.bands)
        latest: deque[Tensor] = deque(maxlen=len(others))
        for z in independent:
            w = z / first
            for coefficient, earlier in zip(others, latest, strict=False):
                w = w - earlier * (coefficient / first)
            latest.appendleft(w)
            yield w

    def suits(self, separation: int) -> bool:
        """Return whether the bands end before a site's next round."""
        return self.bands == "auto" or self.bands <= separation


class Tree(Factorisation):
    """Binary trees of partial sums, a new one every `separation` rounds.

    Of the nodes that a round completes the largest one is noised: it holds the last 2^j rounds,
    2^j being the largest power of two that divides the round's number in its tree. The sum of the
    first t rounds is that of at most log2(t) + 1 nodes.

    Source: Kairouz et al., ICML 2021 (DP-FTRL with tree restarts). Differences: the estimator of
    Honaker, which also uses nodes below the largest, is left out; so are the virtual steps that
    complete a tree before its restart.
    """

    kind: Literal["tree"] = "tree"

    reference: ClassVar[str] = """@inproceedings{kairouz2021practical,
  title = {Practical and Private (Deep) Learning Without Sampling or Shuffling},
  author = {Kairouz, Peter and McMahan, Brendan and Song, Shuang and Thakkar, Om and
            Thakurta, Abhradeep and Xu, Zheng},
  booktitle = {International Conference on Machine Learning (ICML)},
  year = {2021},
}"""

    def correlated(self, independent: Iterable[Tensor], separation: int) -> Iterator[Tensor]:
        """Add the noise of the new node, take away that of the nodes below it."""
        scale = math.sqrt(depth(separation))
        nodes: list[Tensor] = []
        for number, z in enumerate(independent):
            leaf = number % separation + 1
            if leaf == 1:
                nodes = []
            level = (leaf & -leaf).bit_length() - 1
            below = [nodes.pop() for _ in range(level)]
            nodes.append(z)
            yield (z - sum(below)) * scale


def square_root(bands: int) -> list[float]:
    """Return the first coefficients of (1 - x)^(-1/2), divided by their norm.

    >>> square_root(1)
    [1.0]
    """
    found = [1.0]
    for power in range(1, bands):
        found.append(found[-1] * (2 * power - 1) / (2 * power))
    norm = math.sqrt(math.fsum(value * value for value in found))
    return [value / norm for value in found]


def depth(num_leaves: int) -> int:
    """Return how many nodes of a tree may hold a leaf.

    >>> depth(1), depth(2), depth(1600)
    (1, 2, 11)
    """
    return num_leaves.bit_length()


BUILTIN = (Banded, Tree)
