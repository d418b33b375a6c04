"""Attacks of a site that knows its own update alone: turned around, blown up, or noise."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from fedsim.adversaries.adversary import UpdateAttack

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from fedsim.adversaries.adversary import Update


class SignFlip(UpdateAttack):
    """Sends -scale times its update.

    Source: Li et al., 2019.
    """

    kind: Literal["sign_flip"] = "sign_flip"
    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="of what is sent")

    reference: ClassVar[str] = """@inproceedings{li2019rsa,
  title = {{RSA}: {Byzantine}-Robust Stochastic Aggregation Methods for Distributed Learning
           from Heterogeneous Datasets},
  author = {Li, Liping and Xu, Wei and Chen, Tianyi and Giannakis, Georgios B. and Ling, Qing},
  booktitle = {AAAI Conference on Artificial Intelligence},
  year = {2019},
}"""

    def forge(self, update: Update, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return -scale times the update."""
        return {name: -self.scale * tensor for name, tensor in update.items()}


class ScaledUpdate(UpdateAttack):
    """Sends its update times a factor (boosting).

    With an unweighted mean over m sites and factor m its model replaces the global one, up to what
    the other sites add. What it boosts is honest, unless the site is a `label_flip` too.

    Source: Bagdasaryan et al., 2020, equation 3.
    """

    kind: Literal["scaled_update"] = "scaled_update"
    factor: float = Field(gt=0, allow_inf_nan=False, description="on the update")

    reference: ClassVar[str] = """@inproceedings{bagdasaryan2020how,
  title = {How To Backdoor Federated Learning},
  author = {Bagdasaryan, Eugene and Veit, Andreas and Hua, Yiqing and Estrin, Deborah and
            Shmatikov, Vitaly},
  booktitle = {Artificial Intelligence and Statistics (AISTATS)},
  year = {2020},
}"""

    def forge(self, update: Update, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return factor times the update."""
        return {name: self.factor * tensor for name, tensor in update.items()}


class Gaussian(UpdateAttack):
    """Sends independent normal noise around the global model.

    Source: Blanchard et al., 2017, whose noise has a given standard deviation.
    """

    kind: Literal["gaussian"] = "gaussian"
    std: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="of every number that is sent"
    )
    norm_ratio: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="norm of the noise over that of the site's update, as root mean square; "
        "instead of std",
    )

    reference: ClassVar[str] = """@inproceedings{blanchard2017machine,
  title = {Machine Learning with Adversaries: {Byzantine} Tolerant Gradient Descent},
  author = {Blanchard, Peva and El Mhamdi, El Mahdi and Guerraoui, Rachid and Stainer, Julien},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2017},
}"""

    @model_validator(mode="after")
    def _one_size(self) -> Gaussian:
        if (self.std is None) == (self.norm_ratio is None):
            raise ValueError("give std or norm_ratio: how large the noise is")
        return self

    def forge(self, update: Update, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return noise of the update's shapes, drawn in the order of its parameters."""
        std = self.std if self.std is not None else self._relative(update)
        return {
            name: std * tensor.new_tensor(rng.standard_normal(tuple(tensor.shape)))
            for name, tensor in update.items()
        }

    def _relative(self, update: Update) -> float:
        assert self.norm_ratio is not None
        squares = sum(float(tensor.square().sum()) for tensor in update.values())
        return self.norm_ratio * math.sqrt(squares / sum(t.numel() for t in update.values()))
