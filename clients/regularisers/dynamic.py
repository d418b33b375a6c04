"""Dynamic regularisation: local optima that agree with the global one (FedDyn, client half).

Source: Acar et al., ICLR 2021, algorithm 1. A site minimises

    F_i(w) - <h_i, w> + alpha/2 ||w - w_t||^2

and then sets h_i to h_i - alpha (w_i - w_t), which is its gradient at w_i if it has found the
minimum. The server half is the strategy `fed_dyn`, with the same alpha. Nothing beside the model is
sent. The paper minimises exactly; here, as in its experiments, the site takes its steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.regularisers.base import (
    Finished,
    Local,
    Regulariser,
    inner_product,
    squared_distance,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clients.batch import Batch


class Dynamic(Regulariser):
    """A linear and a proximal term that change by round (FedDyn); needs the strategy `fed_dyn`.

    Memory: h_i, zero before the first round.
    """

    kind: Literal["dynamic"] = "dynamic"
    alpha: float = Field(
        default=0.01, gt=0, allow_inf_nan=False, description="the same as the strategy's"
    )

    remembers: ClassVar[bool] = True
    reference: ClassVar[str] = """@inproceedings{acar2021federated,
  title = {Federated Learning Based on Dynamic Regularization},
  author = {Acar, Durmus Alp Emre and Zhao, Yue and Matas, Ramon and Mattina, Matthew and
            Whatmough, Paul and Saligrama, Venkatesh},
  booktitle = {International Conference on Learning Representations (ICLR)},
  year = {2021},
}"""

    def penalty(self, model: nn.Module, batch: Batch, local: Local) -> Tensor:
        """Return alpha/2 ||w - w_t||^2 - <h_i, w>, a scalar."""
        proximal = self.alpha / 2 * squared_distance(model, local)
        if not local.memory:
            return proximal
        return proximal - inner_product(local.memory, model, local)

    def finish(self, model: nn.Module, local: Local) -> Finished:
        """Keep h_i - alpha (w_i - w_t)."""
        return Finished(
            {
                name: local.memory.get(name, 0) - self.alpha * (w.detach() - local.start[name])
                for name, w in local.parameters(model)
            }
        )
