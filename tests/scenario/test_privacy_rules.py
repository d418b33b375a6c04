"""A scenario that would not keep what its privacy section promises is refused, with the way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fedsim.errors import InputError, ScenarioError
from fedsim.scenario import Scenario, from_data, open_population
from fedsim.scenario.privacy import unprotected

CONTENT: dict[str, Any] = {
    "version": 1,
    "name": "private",
    "rounds": 2,
    "data": {
        "source": {"kind": "synthetic", "anatomy": "chest", "image_size": 16, "num_examples": 120},
        "task": "binary",
    },
    "population": {"num_sites": 3},
    "client": {"epochs": 1, "batch_size": 16},
    "privacy": {"mechanism": {"kind": "example_level", "noise_multiplier": 1.0}, "delta": 1e-4},
}
MECHANISM: dict[str, Any] = CONTENT["privacy"]["mechanism"]
L4 = [{"profile": "l4", "share": 1}]


def changed(section: str, **values: Any) -> dict[str, Any]:
    return {**CONTENT, section: {**CONTENT.get(section, {}), **values}}


def privately(**values: Any) -> dict[str, Any]:
    return changed("privacy", **values)


def told(content: dict[str, Any], read: Callable[[Scenario], Any] = lambda scenario: None) -> str:
    with pytest.raises(ScenarioError) as caught:
        read(from_data(content, "FILE"))
    return str(caught.value)


def test_a_plain_private_scenario_is_fine() -> None:
    for content in (
        CONTENT,
        privately(budget={"epsilon": 8}, mechanism={**MECHANISM, "noise_multiplier": "auto"}),
        privately(mechanism={**MECHANISM, "noise_multiplier": 0}),
        changed("client", regulariser={"kind": "proximal"}),
        changed("client", objective={"kind": "margin", "form": "logits"}),
        changed("client", personalisation={"kind": "ditto"}),
        {
            **changed("client", personalisation={"kind": "private_parameters"}),
            "evaluation": {"loss_decomposition": False},
        },
        {**CONTENT, "strategy": {"kind": "principal_gradient"}},
        {**CONTENT, "cohort": {"kind": "poisson", "sampling_rate": 0.5}},
    ):
        open_population(from_data(content, "FILE"))


def test_every_value_is_in_the_digest() -> None:
    augmented = {**CONTENT["data"], "augmentation": {"horizontal_flip": True}}
    other: list[dict[str, Any]] = [
        privately(delta=1e-5),
        privately(budget={"epsilon": 8}),
        privately(budget={"epsilon": 7}),
        privately(budget={"epsilon": 8, "on_budget": "stop_run"}),
        {**privately(strict=True), "evaluation": {"loss_decomposition": False}},
        *(
            {**privately(mechanism={**MECHANISM, **change}), "data": augmented}
            for change in (
                {},
                {"noise_multiplier": 1.5},
                {"clip_norm": 2},
                {"clipping": "per_layer"},
                {"num_augmentations": 2},
                {"max_physical_batch": 64},
                {"average_decay": 0.9},
            )
        ),
    ]
    digests = {from_data(content, "FILE").digest for content in (CONTENT, *other)}
    assert len(digests) == 1 + len(other)


@pytest.mark.parametrize(
    ("content", "key", "why", "way_out"),
    [
        (
            changed("client", objective={"kind": "cross_entropy", "class_weights": "balanced"}),
            "client.objective",
            "moves the clipped sum by more than clip_norm",
            "without class_weights",
        ),
        (
            changed("client", objective={"kind": "margin", "form": "batch_probabilities"}),
            "client.objective",
            "depend on others",
            "form: logits",
        ),
        (
            changed("client", regulariser={"kind": "contrastive"}),
            "client.regulariser",
            "neither clipped nor noised",
            "proximal",
        ),
        (
            changed("client", personalisation={"kind": "fine_tuning", "epochs": 1}),
            "client.personalisation",
            "anew before every evaluation",
            "ditto",
        ),
        (changed("client", drop_last=True), "client.drop_last", "Poisson samples", "false"),
        (
            {**CONTENT, "strategy": {"kind": "q_fed_avg", "q": 1.0}},
            "strategy",
            "without noise",
            "weighted_mean",
        ),
        (
            {**CONTENT, "strategy": {"kind": "flower", "name": "QFedAvg"}},
            "strategy",
            "without noise",
            "weighted_mean",
        ),
        (
            {
                **changed("population", devices=L4),
                "round_policy": {"kind": "deadline", "seconds": 1.0},
            },
            "round_policy",
            "is not accounted",
            "synchronous",
        ),
        (
            {
                **changed("population", devices=L4),
                "round_policy": {"kind": "buffered_async", "buffer_size": 2},
            },
            "round_policy",
            "is not accounted",
            "synchronous",
        ),
        (
            changed("population", devices=[{**L4[0], "steps": 3}]),
            "population.devices.0.steps",
            "the ledger has the same steps",
            "leave steps out",
        ),
        (
            changed("population", devices=[{**L4[0], "precision": "bf16"}]),
            "population.devices.0.precision",
            "in fp32",
            "leave it out",
        ),
        (
            {
                **changed("population", devices=L4),
                "client": {**CONTENT["client"], "batch": "fit"},
            },
            "client.batch",
            "max_physical_batch at a time",
            "fits the smallest device",
        ),
        (
            changed("population", partition={"kind": "resampled", "examples_per_site": 5}),
            "population.partition",
            "sum over those sites",
            "divides the images",
        ),
        (
            privately(mechanism={**MECHANISM, "noise_multiplier": "auto"}),
            "privacy.mechanism.noise_multiplier",
            "privacy.budget",
            "or a number",
        ),
        (
            privately(mechanism={**MECHANISM, "noise_multiplier": 0}, budget={"epsilon": 9}),
            "privacy.mechanism.noise_multiplier",
            "more than any budget",
            "leave privacy.budget out",
        ),
        (
            privately(mechanism={**MECHANISM, "num_augmentations": 4}),
            "privacy.mechanism.num_augmentations",
            "would be equal",
            "data.augmentation",
        ),
        (
            {
                **privately(mechanism={**MECHANISM, "average_decay": 0.9}),
                "client": {**CONTENT["client"], "personalisation": {"kind": "ditto"}},
            },
            "privacy.mechanism.average_decay",
            "models of their own",
            "leave it out",
        ),
        (
            privately(strict=True),
            "evaluation.loss_decomposition",
            "privacy.strict forbids",
            "set it to false",
        ),
        (
            {**privately(strict=True), "baselines": ["pooled"]},
            "baselines",
            "without privacy",
            "leave this key out",
        ),
        (
            {**privately(strict=True), "baselines": ["local"]},
            "baselines",
            "in place of its part",
            "leave this key out",
        ),
    ],
)
def test_what_would_break_the_promise_is_refused(
    content: dict[str, Any], key: str, why: str, way_out: str
) -> None:
    said = told(content)
    assert f"{key}\n" in said
    problem = said.split(f"{key}\n", 1)[1].split("\nFILE", 1)[0]
    assert why in problem
    assert way_out in problem


def test_delta_is_required_and_below_one_over_the_images_of_a_site() -> None:
    without = {**CONTENT, "privacy": {"mechanism": MECHANISM}}
    assert "privacy.delta" in told(without)
    said = told(privately(delta=0.05), open_population)
    assert "privacy.delta" in said
    assert "use less" in said
    for delta in (0, 1, -1e-5, 1e-10):
        assert "privacy.delta" in told(privately(delta=delta))


def test_starting_weights_are_listed_as_public() -> None:
    told = [item.what for item in unprotected(from_data(CONTENT, "FILE"))]
    assert not any("starting weights" in what for what in told)
    begun = {**CONTENT, "model": {"kind": "mlp", "weights": "of/them.safetensors"}}
    told = [item.what for item in unprotected(from_data(begun, "FILE"))]
    assert any(what.startswith("starting weights them.safetensors") for what in told)


def test_a_clip_that_single_precision_cannot_keep_is_refused() -> None:
    for clip in (0, 1e-7, 1e7):
        assert "privacy.mechanism.clip_norm" in told(
            privately(mechanism={**MECHANISM, "clip_norm": clip})
        )


def test_what_needs_real_secrets_is_refused_in_a_federation() -> None:
    from fedsim.flower.federation import unsuited

    scenario = from_data(CONTENT, "FILE")
    problems = {problem.path: problem.message for problem in unsuited(scenario)}
    assert "from the scenario's seed" in problems["privacy",]


def test_budget_and_noise_have_bounds() -> None:
    for noise in (-1, 1e9, "automatic"):
        with pytest.raises(InputError, match="noise_multiplier"):
            from_data(privately(mechanism={**MECHANISM, "noise_multiplier": noise}), "FILE")
    with pytest.raises(InputError, match="epsilon"):
        from_data(privately(budget={"epsilon": 0}), "FILE")
