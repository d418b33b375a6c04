"""What losses on bags share that correct for the other examples of a bag by the class prior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from clients.objectives.bagged import BagObjective, to_proportions

if TYPE_CHECKING:
    from torch import Tensor

    from clients.objectives.base import Context


class DebiasedBagObjective(BagObjective):
    """A loss whose expectation over random bags is a loss of single examples, given the prior p*.

    A site's bags follow the site's own prior. With that of all sites in its place the loss is
    biased where sites differ (label skew); each loss says by how much.
    """

    prior: Literal["site", "population"] = Field(
        default="site", description="p*: class proportions of the site's own bags, or of all sites'"
    )

    def class_prior(self, context: Context, outputs: Tensor) -> Tensor:
        """Return p*, (class,); counts that noise took below zero count as none.

        Raises:
            ValueError: if it is asked of all sites and the site cannot know it.
        """
        own = self.prior == "site"
        counts = context.class_counts if own else context.population_counts
        if counts is None:
            raise ValueError(
                f"{self.kind} asks for the class counts of all sites, which a site cannot know "
                "here: use `prior: site`"
            )
        return to_proportions(counts.to(outputs))
