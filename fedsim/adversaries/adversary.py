"""What every adversary is: which sites attack, from which round on, and where it happens.

An attack on labels acts where the site trains. An attack on updates acts on the client update
(local minus global parameters) as the strategy would get it: after a discount for staleness, in
double precision, parameters alone. Buffers and whatever else a site reports are its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from fedsim.plugins import Part

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    Update = Mapping[str, Tensor]


class Adversary(Part, ABC):
    """Some sites, the same for the whole run, that attack it in one way."""

    kind: str
    reference: ClassVar[str] = ""
    """BibTeX of the paper the attack comes from."""

    sites: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="names of the sites that attack"
    )
    share: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="of the sites that train, instead of names; drawn among those that no other "
        "adversary names or has drawn",
    )
    from_round: int = Field(
        default=1, ge=1, description="the first round; a site counts by the one it started in"
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Adversary:
        if (self.share is None) == (self.sites is None):
            raise ValueError("give share or sites: how many sites attack, or which")
        return self


class UpdateAttack(Adversary):
    """A site that trains as it should and sends something else."""

    @abstractmethod
    def forge(self, update: Update, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return what is sent in place of an update; it is not changed.

        Args:
            update: by parameter, (*shape), float64.
            rng: the stream "adversary" of the round and the site.
        """


class OmniscientAttack(Adversary):
    """Sites that know the honest updates of the round and all send the same."""

    @abstractmethod
    def forge(self, honest: Update) -> dict[str, Tensor]:
        """Return what each of them sends; the honest updates are not changed.

        Args:
            honest: by parameter the updates of the honest sites, (site, *shape), float64, at least
                one. May be built on access: read each entry as seldom as possible.
        """
