"""Principal-gradient aggregation: sites vote along shared directions (FedLD, server half).

Source: Zeng et al., MICCAI 2024, and the code released with it. For one layer let the client
updates be the rows g_i of G (m x d), H = G G^T / m = E diag(s) E^T with s descending,
n_i = ||g_i|| and S = sum s. The released code projects every g_i on each principal direction
w_j = G^T e_j, keeps the first k, gives each projection the length (s_j / S) n_i and takes the mean
over sites. Since <g_i, w_j> = m s_j e_ij and ||w_j||^2 = m s_j, that is G^T c with

    c = m^(-3/2) S^-1 sum_{j<k} sqrt(s_j) (sign(e_j) . n) e_j,

a rule on K = G G^T alone: along each direction a site votes with its whole norm, however small its
projection. Flipping the sign of e_j changes nothing.

Differences from the released code:

- Finite where that one divides zero by zero: an all-zero layer gives zero; a site with a zero
  update, or one orthogonal to a direction, casts no vote there.
- At least one direction is kept unless `allow_no_direction`.
- Sites can count as their examples do (`weights`), by the same derivation with p_i for 1/m:
  H = P^(1/2) G G^T P^(1/2) and c = P^(1/2) S^-1 sum_{j<k} sqrt(s_j) (sum_i p_i n_i sign e_ij) e_j.
- Noise that sites added to their updates can be taken out of K (`debias`): independent Gaussian
  noise of standard deviation sigma_i in each of d elements adds d sigma_i^2 to K_ii and nothing to
  what lies off the diagonal, in expectation. G keeps its noise. Where the difference is negative, a
  site's length is taken as zero, and eigenvalues below zero as zero: with both, no more is claimed
  than that K is unbiased before.

As in the released code, a layer takes the plain mean until its aggregate was non-zero once, and so
does a layer of one element always.

What to expect of the rule: it shortens the step when sites disagree, does not vanish where the mean
update does, and is discontinuous where an e_ij changes sign or eigenvalues cross at the k-th place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from strategies.base import NOTHING, State, Strategy

if TYPE_CHECKING:
    from torch import Tensor

UPDATE_NOISE = "update-noise"
"""What a site reports: standard deviation of the noise in each element of its update."""
NO_VOTE = 1e-13
"""A component of a unit eigenvector this small is rounding noise: its site casts no vote."""


class PrincipalGradient(Strategy):
    """Keep the leading directions of the updates; along each, every site votes with its norm.

    Order of sites: permuting them changes the aggregate by rounding only, except where the rule is
    discontinuous. Ties: equal eigenvalues leave the directions to LAPACK; those kept are the last k
    in the ascending order that it returns. The same input in the same order gives the same bits on
    the same machine with the same number of threads; across machines ties may break differently.

    State: `moved`, by parameter name whether its aggregate was ever non-zero.

    Non-finite updates get no special handling: the aggregate of that layer is not finite, or the
    eigensolver raises. Squares are formed in the dtype of the updates, float32 at least, so float32
    entries beyond 1e18 count as infinite, and a layer with none above 1e-23 as zero.

    >>> import torch
    >>> updates = {"bias": torch.tensor([[3.0, 4.0], [3.0, 4.0]], dtype=torch.float64)}
    >>> state = {"moved": {"bias": True}}
    >>> aggregate, _ = PrincipalGradient().aggregate(updates, torch.tensor([10.0, 30.0]), state)
    >>> aggregate["bias"].round(decimals=9)
    tensor([3., 4.], dtype=torch.float64)
    """

    kind: Literal["principal_gradient"] = "principal_gradient"
    keep: float = Field(
        default=0.8, gt=0, le=1, description="fraction of the directions kept, k = int(keep * m)"
    )
    weights: Literal["examples", "uniform"] = Field(
        default="uniform",
        description="what a site counts as: its examples, or all the same (paper)",
    )
    allow_no_direction: bool = Field(
        default=False,
        description="let k be 0 as the released code does, which stops a layer that has moved",
    )
    debias: bool = Field(
        default=False,
        description="take the noise that sites add to their updates (privacy local) out of the "
        "lengths: d sigma^2 in a layer of d elements",
    )

    reference: ClassVar[str] = """@inproceedings{zeng2024fedld,
  title = {Tackling Data Heterogeneity in Federated Learning via Loss Decomposition},
  author = {Zeng, Shuang and Guo, Pengxin and Wang, Shuai and Wang, Jianbo and Zhou, Yuyin
            and Qu, Liangqiong},
  booktitle = {Medical Image Computing and Computer Assisted Intervention (MICCAI)},
  year = {2024},
}"""

    @property
    def reports(self) -> tuple[str, ...]:
        """The noise in the updates, if it is to be taken out of their lengths."""
        return (UPDATE_NOISE,) if self.debias else ()

    def init(self, parameters: Mapping[str, Tensor], num_sites: int) -> State:
        """Return the state in which no parameter has moved."""
        return {"moved": dict.fromkeys(parameters, False)}

    def aggregate(
        self,
        updates: Mapping[str, Tensor],
        weights: Tensor,
        state: State,
        reported: Mapping[str, Tensor] = NOTHING,
    ) -> tuple[dict[str, Tensor], State]:
        """Return G^T c for every parameter, and which of them have moved by now.

        Raises:
            torch.linalg.LinAlgError: the eigensolver did not converge; the updates are not finite.
        """
        import torch

        from strategies.gram import shares

        p = shares(weights, self.weights)
        moved = state["moved"]
        variances = reported[UPDATE_NOISE].to(p).square() if self.debias else torch.zeros_like(p)
        aggregate = {
            name: self._layer(updates[name], p, moved[name], variances) for name in updates
        }
        return aggregate, {
            "moved": {name: moved[name] or bool(aggregate[name].any()) for name in updates}
        }

    def _layer(self, stack: Tensor, p: Tensor, moved: bool, variances: Tensor) -> Tensor:
        """Return the aggregate of one layer, (*shape), from its stack, (site, *shape).

        Args:
            stack: the updates.
            p: how much each site counts, (site,), float64.
            moved: whether the layer's aggregate was ever non-zero.
            variances: of the noise in each element of a site's update, (site,), float64.
        """
        from strategies.gram import combine, gram

        if not moved or stack[0].numel() == 1:
            return combine(stack, p)
        K = debiased(gram(stack), stack[0].numel() * variances)
        return combine(stack, coefficients(K, p, self._directions(len(stack))))

    def _directions(self, sites: int) -> int:
        """Return k, the number of directions kept."""
        return max(int(self.keep * sites), 0 if self.allow_no_direction else 1)


def debiased(K: Tensor, noise: Tensor) -> Tensor:
    """Return K, (site, site), less the expected squared norm of each site's noise, (site,).

    >>> import torch
    >>> debiased(torch.tensor([[3.0, 1.0], [1.0, 1.0]]), torch.tensor([2.0, 2.0]))
    tensor([[1., 1.],
            [1., 0.]])
    """
    lengths = (K.diagonal() - noise).clamp(min=0)
    return K - (K.diagonal() - lengths).diag()


def coefficients(K: Tensor, p: Tensor, k: int) -> Tensor:
    """Return c of the module docstring: (site,), float64.

    Args:
        K: inner products of the updates, G G^T, (site, site), float64; or an estimate of them.
        p: how much each site counts, (site,), float64, non-negative with sum one.
        k: how many directions to keep, at most the number of sites.

    Raises:
        torch.linalg.LinAlgError: the eigensolver did not converge; K is not finite.

    >>> import torch
    >>> coefficients(torch.eye(2, dtype=torch.float64), torch.tensor([0.5, 0.5]).double(), k=0)
    tensor([0., 0.], dtype=torch.float64)
    """
    import torch

    squares = K.diagonal()
    S = p @ squares
    if S == 0:
        return torch.zeros_like(p)
    root = p.sqrt()
    s, E = torch.linalg.eigh(root[:, None] * K * root)
    s, E = s[len(p) - k :].clamp(min=0), E[:, len(p) - k :]
    votes = (p * squares.sqrt()) @ E.sign().where(E.abs() > NO_VOTE, 0.0)
    c: Tensor = root * (E @ (s.sqrt() * votes)) / S
    return c
