"""FedAdagrad, FedAdam and FedYogi: adaptive optimizers on the server.

Source: Reddi et al., ICLR 2021 (arXiv 2003.00295), algorithm 2. With the aggregate update Delta_t,

    m_t = beta1 m_{t-1} + (1 - beta1) Delta_t
    v_t = v_{t-1} + Delta_t^2                                          FedAdagrad
    v_t = beta2 v_{t-1} + (1 - beta2) Delta_t^2                        FedAdam
    v_t = v_{t-1} - (1 - beta2) Delta_t^2 sign(v_{t-1} - Delta_t^2)    FedYogi
    x_{t+1} = x_t + eta m_t / (sqrt(v_t) + tau)

from m_{-1} = 0 and v_{-1} = tau^2, all by coordinate. There is no bias correction, which
`torch.optim.Adam` and Flower's FedAdam have and which makes them other methods; Flower's three also
start at v_{-1} = 0. Differences from the paper: none; it asks for v_{-1} >= tau^2.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from strategies.base import State
from strategies.server_optimizer import REDDI, ServerOptimizer

if TYPE_CHECKING:
    from torch import Tensor


class FedOpt(ServerOptimizer):
    """What the three share: momentum over the root of a second moment.

    State: `m` and `v` by parameter name, float64, so that squares of small updates keep their
    digits. A first step has about the length eta per coordinate whatever the length of the update,
    so learning rates of the mean do not carry over.
    """

    learning_rate: float = Field(default=0.01, gt=0, allow_inf_nan=False, description="eta")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="how much of m a round keeps")
    tau: float = Field(
        default=1e-3,
        gt=0,
        allow_inf_nan=False,
        description="adaptivity: updates far below it are scaled alike, those above made equal",
    )

    reference: ClassVar[str] = REDDI

    @abstractmethod
    def second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        """Return v_t from v_{t-1} and Delta_t^2."""

    def init(self, parameters: Mapping[str, Tensor]) -> State:
        """Return m = 0 and v = tau^2."""
        import torch

        m = {
            name: torch.zeros_like(value, dtype=torch.float64) for name, value in parameters.items()
        }
        return {"m": m, "v": {name: value + self.tau**2 for name, value in m.items()}}

    def step(
        self, aggregate: Mapping[str, Tensor], state: State
    ) -> tuple[dict[str, Tensor], State]:
        """Return eta m_t / (sqrt(v_t) + tau), and m_t and v_t."""
        m, v, update = {}, {}, {}
        for name, delta in aggregate.items():
            wide = delta.double()
            m[name] = self.beta1 * state["m"][name] + (1 - self.beta1) * wide
            v[name] = self.second_moment(state["v"][name], wide.square())
            step = self.learning_rate * m[name] / (v[name].sqrt() + self.tau)
            update[name] = step.to(delta.dtype)
        return update, {"m": m, "v": v}


class FedAdagrad(FedOpt):
    """Adagrad on the pseudo-gradient: steps get shorter as squares add up.

    >>> import torch
    >>> rule = FedAdagrad(learning_rate=1.0, beta1=0.0)
    >>> update, _ = rule.step({"bias": torch.ones(1)}, rule.init({"bias": torch.zeros(1)}))
    >>> update["bias"]
    tensor([0.9990])
    """

    kind: Literal["fed_adagrad"] = "fed_adagrad"
    beta1: float = Field(
        default=0.0, ge=0, lt=1, description="how much of m a round keeps; the paper uses 0"
    )

    def second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        """Return the sum so far."""
        return v + square


class FedAdam(FedOpt):
    """Adam on the pseudo-gradient, without bias correction.

    >>> import torch
    >>> rule = FedAdam(learning_rate=1.0)
    >>> update, _ = rule.step({"bias": torch.ones(1)}, rule.init({"bias": torch.zeros(1)}))
    >>> update["bias"]
    tensor([0.9901])
    """

    kind: Literal["fed_adam"] = "fed_adam"
    beta2: float = Field(default=0.99, ge=0, lt=1, description="how much of v a round keeps")

    def second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        """Return the moving average."""
        return self.beta2 * v + (1 - self.beta2) * square


class FedYogi(FedOpt):
    """Yogi on the pseudo-gradient: like Adam, but v changes by no more than a square at a time.

    >>> import torch
    >>> rule = FedYogi(learning_rate=1.0)
    >>> update, _ = rule.step({"bias": torch.ones(1)}, rule.init({"bias": torch.zeros(1)}))
    >>> update["bias"]
    tensor([0.9901])
    """

    kind: Literal["fed_yogi"] = "fed_yogi"
    beta2: float = Field(default=0.99, ge=0, lt=1, description="how slowly v follows the squares")

    def second_moment(self, v: Tensor, square: Tensor) -> Tensor:
        """Return v moved towards the square, by a share of the square."""
        return v - (1 - self.beta2) * square * (v - square).sign()
