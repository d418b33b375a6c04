"""A personal model beside the global one, held near it (Ditto).

Source: Li, Hu, Beirami and Smith, ICML 2021, algorithm 1. In each of its rounds a site trains the
global model as ever and then, on batches of its own, its personal model v_i on

    F_i(v) + lambda/2 ||v - w_t||^2

as long as the global one. Personal models never leave the sites and change nothing of the global
one. A site that has not trained yet is evaluated with the global model, from which its own starts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.personalisation.base import Personalisation

if TYPE_CHECKING:
    from clients.regularisers import Regulariser


class Ditto(Personalisation):
    """A second model at every site, for itself, held near the global one (Ditto).

    Memory: the personal model. A round takes twice the steps.

    >>> Ditto(weight=0.5).beside.weight
    0.5
    """

    kind: Literal["ditto"] = "ditto"
    weight: float = Field(
        default=0.1, ge=0, allow_inf_nan=False, description="lambda; 0 trains each site alone"
    )

    remembers: ClassVar[bool] = True
    reference: ClassVar[str] = """@inproceedings{li2021ditto,
  title = {Ditto: Fair and Robust Federated Learning Through Personalization},
  author = {Li, Tian and Hu, Shengyuan and Beirami, Ahmad and Smith, Virginia},
  booktitle = {International Conference on Machine Learning (ICML)},
  year = {2021},
}"""

    @property
    def beside(self) -> Regulariser | None:
        """The proximal term with lambda."""
        from clients.regularisers import Proximal

        return Proximal(weight=self.weight)
