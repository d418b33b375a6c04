"""The proximal term: keep the local model near the global one (FedProx, client half).

Source: Li et al., MLSys 2020, arXiv 1812.06127: h(w) = F(w) + mu/2 ||w - w_t||^2, with the squared
norm of the paper. A Flower server that runs FedProx asks for this same term by its weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.regularisers.base import Local, Regulariser, squared_distance

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.batch import Batch


class Proximal(Regulariser):
    """Half the squared distance to the global model, times a weight (FedProx).

    >>> Proximal(weight=0.1).remembers
    False
    """

    kind: Literal["proximal"] = "proximal"
    weight: float = Field(default=0.01, ge=0, allow_inf_nan=False, description="mu")

    reference: ClassVar[str] = """@inproceedings{li2020federated,
  title = {Federated Optimization in Heterogeneous Networks},
  author = {Li, Tian and Sahu, Anit Kumar and Zaheer, Manzil and Sanjabi, Maziar and
            Talwalkar, Ameet and Smith, Virginia},
  booktitle = {Proceedings of Machine Learning and Systems (MLSys)},
  year = {2020},
}"""

    def penalty(self, model: nn.Module, batch: Batch, local: Local) -> Tensor:
        """Return mu/2 ||w - w_t||^2, a scalar."""
        return self.weight / 2 * squared_distance(model, local)
