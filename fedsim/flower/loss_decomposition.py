"""FedLD's lens: where the global loss comes from, for any strategy.

With client models w_i, client risks L_i, weights p_i, L = sum_i p_i L_i and the new global model w

    L(w) =  sum_i p_i L_i(w_i)                   local loss
         +  sum_i p_i [L(w_i) - L_i(w_i)]        distribution shift loss
         +  [L(w) - sum_i p_i L(w_i)]            aggregation loss

an identity that carries the names of Zeng et al., MICCAI 2024 (their displayed equation was not at
hand; this is the telescoping that fits the names). The risks are cross-entropy on training images,
(of a regression: squared error), estimated on subsamples that are drawn once per run, stratified by
class: a part of every site for
L_i(w_i) and a smaller part of all sites together for L, so that all passes over them cost less
than the round's training. Adversaries change neither labels nor w_i here: the model of a site is
the one that it trained, not what it sent, so the harm of forged updates is in the aggregation loss,
that of flipped labels in the local loss. An instrument of the simulator: no site could measure this
alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from clients.batch import Batch
from fedsim.data.divided_sites import systematic
from fedsim.flower.workplace import Workplace

LARGEST_SHARE = 0.5
"""Share of a site's training examples used for L_i, and, divided over the models, for L."""
FEWEST_POOLED = 64
"""Pooled examples to use for L where the share would give fewer and they cost no more than the
training images seen once."""


@dataclass(frozen=True)
class Terms:
    """The three terms and their sum, in nats per example, or the squared error as it is learned.

    Args:
        local_loss: client models on their own data.
        distribution_shift_loss: what the client models lose on everybody's data.
        aggregation_loss: merged model against the client models, on everybody's data.
        global_loss: merged model on everybody's data; the sum of the three.
        num_local_examples: examples that the local loss rests on.
        num_pooled_examples: examples that the other terms rest on.
    """

    local_loss: float
    distribution_shift_loss: float
    aggregation_loss: float
    global_loss: float
    num_local_examples: int
    num_pooled_examples: int


class LossDecomposition:
    """The fixed subsamples of one run and the measurement on them."""

    def __init__(self, workplace: Workplace) -> None:
        self.workplace = workplace
        sites, plan = range(len(workplace.population)), workplace.scenario.client.plan
        self._sizes = [int(workplace.population.class_counts(s, "train").sum()) for s in sites]
        passes = plan.epochs or (plan.steps or 0) * plan.batch_size * len(sites) / sum(self._sizes)
        share = LARGEST_SHARE * min(1.0, passes)
        affordable = min(1.0, passes) / (len(sites) + 1)
        pooled_share = max(
            LARGEST_SHARE * affordable, min(affordable, FEWEST_POOLED / sum(self._sizes))
        )
        self.local = [self._subsample(s, share, "loss_local") for s in sites]
        pooled = [self._subsample(s, pooled_share, "loss_pooled") for s in sites]
        self.pooled = Batch(
            torch.cat([batch.images for batch in pooled]),
            torch.cat([batch.labels for batch in pooled]),
        )

    def measure(
        self, local_models: Mapping[int, Mapping[str, Tensor]], global_model: Mapping[str, Tensor]
    ) -> dict[str, float | int]:
        """Return the terms after one round.

        Args:
            local_models: site -> w_i, for the sites of the cohort.
            global_model: w after the round.
        """
        total = sum(self._sizes[site] for site in local_models)
        local = pooled = 0.0
        for site, model in local_models.items():
            weight = self._sizes[site] / total
            own, everybody = self._losses(model, self.local[site], self.pooled)
            local += weight * own
            pooled += weight * everybody
        (merged,) = self._losses(global_model, self.pooled)
        terms = Terms(
            local_loss=local,
            distribution_shift_loss=pooled - local,
            aggregation_loss=merged - pooled,
            global_loss=merged,
            num_local_examples=sum(len(self.local[site]) for site in local_models),
            num_pooled_examples=len(self.pooled),
        )
        return asdict(terms)

    def _subsample(self, site: int, share: float, purpose: str) -> Batch:
        rng = self.workplace.streams.numpy(purpose, site=site)
        examples = self.workplace.examples(site, "train")
        chosen = systematic(examples.labels.cpu().numpy(), share, rng)
        if not len(chosen) and purpose == "loss_local":
            chosen = rng.integers(len(examples), size=1)
        return examples.select(torch.from_numpy(chosen).to(examples.labels.device))

    def _losses(self, model: Mapping[str, Tensor], *groups: Batch) -> list[float]:
        """Return the mean loss of each group."""
        target = self.workplace.scenario.data.predicted
        return [
            float(target.loss(scores.double(), examples.labels))
            for scores, examples in zip(
                self.workplace.network.predict(model, *groups), groups, strict=True
            )
        ]
