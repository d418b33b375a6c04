"""Attacks of sites that know what the honest ones send: small steps that add up."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from fedsim.adversaries.adversary import OmniscientAttack

if TYPE_CHECKING:
    from torch import Tensor

    from fedsim.adversaries.adversary import Update


class InnerProduct(OmniscientAttack):
    """Every attacker sends -epsilon times the unweighted mean of the honest updates.

    Of m sites with q attackers and equal weights, a mean turns around if epsilon > (m - q) / q;
    Krum tends to choose an attacker if epsilon is small, because they are all alike.

    Source: Xie, Koyejo and Gupta, 2020.
    """

    kind: Literal["inner_product"] = "inner_product"
    epsilon: float = Field(gt=0, allow_inf_nan=False, description="on the honest mean")

    reference: ClassVar[str] = """@inproceedings{xie2020fall,
  title = {Fall of Empires: Breaking {Byzantine}-tolerant {SGD} by Inner Product Manipulation},
  author = {Xie, Cong and Koyejo, Oluwasanmi and Gupta, Indranil},
  booktitle = {Uncertainty in Artificial Intelligence},
  year = {2020},
}"""

    def forge(self, honest: Update) -> dict[str, Tensor]:
        """Return -epsilon times the mean."""
        return {name: -self.epsilon * honest[name].mean(dim=0) for name in honest}


class LittleIsEnough(OmniscientAttack):
    """Every attacker sends mu - z sigma, coordinate by coordinate, of the honest updates.

    The paper's z for m sites with q attackers is the standard normal quantile of
    (m - q - s) / (m - q) with s = floor(m / 2 + 1) - q, so that a median may choose an attacker.
    Differences from the paper: its attackers estimate mu and sigma from their own honest updates.

    Source: Baruch, Baruch and Goldberg, 2019.
    """

    kind: Literal["little_is_enough"] = "little_is_enough"
    z: float = Field(gt=0, allow_inf_nan=False, description="standard deviations from the mean")

    reference: ClassVar[str] = """@inproceedings{baruch2019little,
  title = {A Little Is Enough: Circumventing Defenses For Distributed Learning},
  author = {Baruch, Gilad and Baruch, Moran and Goldberg, Yoav},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2019},
}"""

    def forge(self, honest: Update) -> dict[str, Tensor]:
        """Return mu - z sigma, sigma being the population's."""
        return {name: self._shifted(honest[name]) for name in honest}

    def _shifted(self, stack: Tensor) -> Tensor:
        return stack.mean(dim=0) - self.z * stack.std(dim=0, correction=0)
