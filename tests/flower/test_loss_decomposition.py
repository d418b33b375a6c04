"""The three terms: an identity, a second implementation, and samples that stay the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fedsim.flower.loss_decomposition import LossDecomposition
from fedsim.flower.workplace import Workplace
from fedsim.scenario import Scenario, open_population
from fedsim.simulate import run

Make = Callable[..., Scenario]


@pytest.fixture(scope="module")
def workplace(tiny: Make) -> Workplace:
    scenario = tiny()
    return Workplace(scenario, open_population(scenario), torch.device("cpu"))


def models(workplace: Workplace) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            n: t + 0.3 * torch.randn(t.shape, generator=generator)
            for n, t in workplace.network.initial.items()
        }
        for _ in range(4)
    ]


def test_terms_against_risks_computed_one_by_one(workplace: Workplace) -> None:
    lens = LossDecomposition(workplace)
    *local, merged = models(workplace)

    def risk(model: dict[str, torch.Tensor], examples: Any) -> float:
        module = workplace.network.module
        logits = torch.func.functional_call(module, model, examples.images).double()
        picked = logits.log_softmax(1)[torch.arange(len(examples)), examples.labels]
        return float(-picked.mean())

    sizes = [len(workplace.examples(site, "train")) for site in range(3)]
    p = [n / sum(sizes) for n in sizes]
    own = sum(p[i] * risk(local[i], lens.local[i]) for i in range(3))
    everybody = sum(p[i] * risk(local[i], lens.pooled) for i in range(3))
    terms = lens.measure(dict(enumerate(local)), merged)
    assert terms["local_loss"] == pytest.approx(own, abs=1e-6)
    assert terms["distribution_shift_loss"] == pytest.approx(everybody - own, abs=1e-6)
    assert terms["aggregation_loss"] == pytest.approx(
        risk(merged, lens.pooled) - everybody, abs=1e-6
    )


def test_terms_add_up_in_every_recorded_round(tiny: Make, tmp_path: Path) -> None:
    for row in run(tiny(), out=tmp_path, device="cpu").rounds:
        terms = row["loss_decomposition"]
        total = terms["local_loss"] + terms["distribution_shift_loss"] + terms["aggregation_loss"]
        assert total == pytest.approx(terms["global_loss"], abs=1e-12)


def test_equal_models_leave_no_aggregation_loss(workplace: Workplace) -> None:
    model = models(workplace)[0]
    terms = LossDecomposition(workplace).measure({0: model, 1: model, 2: model}, model)
    assert terms["aggregation_loss"] == pytest.approx(0, abs=1e-12)


def test_samples_are_fixed_and_stratified(workplace: Workplace) -> None:
    first, second = LossDecomposition(workplace), LossDecomposition(workplace)
    assert torch.equal(first.pooled.images, second.pooled.images)
    for site in range(3):
        sample, whole = first.local[site], workplace.examples(site, "train")
        share = len(sample) / len(whole)
        for label in (0, 1):
            wanted = share * int((whole.labels == label).sum())
            assert abs(int((sample.labels == label).sum()) - wanted) <= 1.5


@pytest.mark.parametrize(("num_sites", "num_examples"), [(3, 1000), (60, 1500)])
def test_shows_fewer_images_than_the_round_trains_and_shows(
    tiny: Make, num_sites: int, num_examples: int
) -> None:
    scenario = tiny(
        data={
            "source": {"kind": "synthetic", "image_size": 16, "num_examples": num_examples},
            "task": "ordinal",
        },
        population={"num_sites": num_sites, "partition": {"kind": "iid"}},
    )
    workplace = Workplace(scenario, open_population(scenario), torch.device("cpu"))
    lens = LossDecomposition(workplace)
    trained = sum(len(workplace.examples(site, "train")) for site in range(num_sites))
    shown = sum(map(len, lens.local)) + (num_sites + 1) * len(lens.pooled)
    assert shown <= 1.7 * trained  # a training pass costs about three times a forward pass


def test_is_measured_in_evaluated_rounds_alone(tiny: Make, tmp_path: Path) -> None:
    record = run(tiny(evaluation={"every": 2}), out=tmp_path, name="every", device="cpu")
    assert [row["loss_decomposition"] is not None for row in record.rounds] == [False, True, True]
    never = run(
        tiny(evaluation={"loss_decomposition": False}), out=tmp_path, name="never", device="cpu"
    )
    assert {row["loss_decomposition"] for row in never.rounds} == {None}
