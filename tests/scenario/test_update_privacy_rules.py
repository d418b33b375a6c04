"""A scenario that would not keep what private client updates promise is refused, with why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fedsim.errors import ScenarioError
from fedsim.scenario import Scenario, from_data, open_population
from fedsim.scenario.privacy import unprotected

UNIFORM = {"kind": "weighted_mean", "weights": "uniform"}
MECHANISMS: dict[str, dict[str, Any]] = {
    "client_level": {"kind": "client_level", "noise_multiplier": 1.0},
    "local": {"kind": "local", "noise_multiplier": 1.0},
    "distributed": {"kind": "distributed", "noise_multiplier": 1.0, "min_survivors": 2},
}
AT_SERVER = ("client_level", "distributed")


def content(kind: str, mechanism: Any = (), **sections: Any) -> dict[str, Any]:
    source = {"kind": "synthetic", "anatomy": "chest", "image_size": 16, "num_examples": 120}
    return {
        "version": 1,
        "name": "private",
        "rounds": 2,
        "data": {"source": source, "task": "binary"},
        "population": {"num_sites": 3},
        "client": {"epochs": 1, "batch_size": 16},
        "privacy": {"mechanism": {**MECHANISMS[kind], **dict(mechanism)}, "delta": 1e-2},
        "strategy": UNIFORM,
        **sections,
    }


def forty_sites() -> dict[str, Any]:
    source = {"kind": "synthetic", "anatomy": "chest", "image_size": 16, "num_examples": 400}
    return {"population": {"num_sites": 40}, "data": {"source": source, "task": "binary"}}


def told(content: dict[str, Any], read: Callable[[Scenario], Any] = lambda scenario: None) -> str:
    with pytest.raises(ScenarioError) as caught:
        read(from_data(content, "FILE"))
    return str(caught.value)


@pytest.mark.parametrize("kind", MECHANISMS)
def test_a_plain_private_scenario_is_fine(kind: str) -> None:
    client = {"epochs": 1, "batch_size": 16, "drop_last": True}
    for sections in (
        {},
        {"server_optimizer": {"kind": "fed_adam"}},
        {"cohort": {"kind": "fixed_size", "num_sites": 2}},
        {"client": {**client, "objective": {"kind": "cross_entropy", "class_weights": "balanced"}}},
        {"client": {**client, "regulariser": {"kind": "proximal"}}},
        {"population": {"num_sites": 3, "outages": [{"probability": 0.1}]}},
    ):
        open_population(from_data(content(kind, **sections), "FILE"))


@pytest.mark.parametrize("kind", AT_SERVER)
@pytest.mark.parametrize(
    "strategy",
    [
        {"kind": "principal_gradient"},
        {"kind": "krum", "num_byzantine": 0},
        {"kind": "coordinate_median"},
        {"kind": "fed_exp", "weights": "uniform"},
        {"kind": "fed_nova"},
        {"kind": "flower", "name": "FedAvg"},
    ],
)
def test_a_rule_that_is_no_fixed_mean_is_refused_with_its_sensitivity(
    kind: str, strategy: dict[str, Any]
) -> None:
    said = " ".join(told(content(kind, strategy=strategy)).split())
    assert "no fixed mean of the updates" in said
    assert "by about clip_norm, however many sites there are" in said
    assert "server_optimizer" in said
    assert "example_level" in said


@pytest.mark.parametrize("kind", AT_SERVER)
def test_weights_by_examples_are_refused(kind: str) -> None:
    for strategy in ({"kind": "weighted_mean"}, {"kind": "weighted_mean", "weights": "examples"}):
        said = told(content(kind, strategy=strategy))
        assert "strategy.weights\n" in said
        assert "clip_norm times its weight" in said


@pytest.mark.parametrize(
    ("kind", "sections", "key", "why"),
    [
        ("local", {"strategy": {"kind": "fed_nova"}}, "strategy", "asks sites for num-steps"),
        (
            "local",
            {
                "strategy": {"kind": "scaffold"},
                "client": {
                    "epochs": 1,
                    "batch_size": 16,
                    "regulariser": {"kind": "control_variates"},
                },
            },
            "strategy",
            "asks sites for control",
        ),
        (
            "distributed",
            {"cohort": {"kind": "poisson", "sampling_rate": 0.5}},
            "cohort",
            "left to chance",
        ),
        (
            "distributed",
            {
                "population": {
                    "num_sites": 3,
                    "adversaries": [{"kind": "sign_flip", "share": 0.4}],
                }
            },
            "population.adversaries",
            "no honest share",
        ),
        *(
            (
                "client_level",
                {"population": {"num_sites": 3, "adversaries": [{**attack, "share": 0.4}]}},
                "population.adversaries.0.kind",
                "of the other sites' updates before they are clipped",
            )
            for attack in (
                {"kind": "inner_product", "epsilon": 1.0},
                {"kind": "little_is_enough", "z": 1.0},
            )
        ),
        *(
            (
                kind,
                {
                    "population": {
                        "num_sites": 3,
                        "supervision": [{"kind": "bags", "bag_size": 8}],
                    },
                    "client": {
                        "epochs": 1,
                        "batch_size": 16,
                        "objective": {"kind": "upm", "prior": "population"},
                    },
                    "evaluation": {"loss_decomposition": False},
                },
                "client.objective.prior",
                "class counts of all of them",
            )
            for kind in MECHANISMS
        ),
        *(
            (
                kind,
                {
                    "client": {
                        "epochs": 1,
                        "batch_size": 16,
                        "personalisation": {"kind": "fine_tuning", "epochs": 1},
                    }
                },
                "client.personalisation",
                "without noise",
            )
            for kind in MECHANISMS
        ),
        *(
            (
                kind,
                {
                    "population": {
                        "num_sites": 3,
                        "partition": {"kind": "resampled", "examples_per_site": 5},
                    }
                },
                "population.partition",
                "may draw the same image",
            )
            for kind in MECHANISMS
        ),
        *(
            (
                kind,
                {
                    "population": {"num_sites": 3, "devices": [{"profile": "l4", "share": 1}]},
                    "round_policy": policy,
                },
                "round_policy",
                "is not accounted",
            )
            for kind in MECHANISMS
            for policy in (
                {"kind": "deadline", "seconds": 1.0},
                {"kind": "over_select", "extra": 1.0},
                {"kind": "buffered_async", "buffer_size": 2},
            )
        ),
    ],
)
def test_what_would_break_the_promise_is_refused(
    kind: str, sections: dict[str, Any], key: str, why: str
) -> None:
    said = told(content(kind, **sections))
    assert f"{key}\n" in said
    assert why in " ".join(said.split())


@pytest.mark.parametrize(
    ("kind", "mechanism", "field", "why"),
    [
        ("distributed", {"min_survivors": 4}, "min_survivors", "4 sites have to answer"),
        ("client_level", {"adaptive_clip": {}}, "adaptive_clip", "use a fixed clip_norm"),
        (
            "client_level",
            {"adaptive_clip": {"count_noise": 1.0}, "noise_multiplier": "auto"},
            "adaptive_clip",
            "standard deviation of 0.33",
        ),
    ],
)
def test_too_few_sites_in_a_round_are_told_without_looking_at_the_data(
    kind: str, mechanism: dict[str, Any], field: str, why: str
) -> None:
    few = content(kind, mechanism)
    few["privacy"]["budget"] = {"epsilon": 8}
    said = " ".join(told(few).split())
    assert f"privacy.mechanism.{field} " in said
    assert why in said
    few |= forty_sites()
    from_data(few, "FILE")
    few["cohort"] = {"kind": "fixed_size", "num_sites": 3}
    assert why in " ".join(told(few).split())


def test_lengths_are_debiased_where_noise_is_added_once_to_an_update_alone() -> None:
    debiased = {"kind": "principal_gradient", "debias": True}
    from_data(content("local", strategy=debiased), "FILE")
    images = content("local", strategy=debiased)
    images["privacy"]["mechanism"] = {"kind": "example_level", "noise_multiplier": 1.0}
    said = " ".join(told(images).split())
    assert "strategy.debias " in said
    assert "under example_level it is not" in said
    without = content("local", strategy=debiased)
    del without["privacy"]
    assert "no site adds noise to its update" in " ".join(told(without).split())


def test_delta_is_below_one_over_the_sites() -> None:
    for kind in MECHANISMS:
        bad = content(kind)
        bad["privacy"] = {**bad["privacy"], "delta": 0.34}
        assert "there are 3 hospitals" in " ".join(told(bad, open_population).split())


def test_what_is_released_beside_the_updates_is_listed_and_strict_forbids_it() -> None:
    weighted = content("local", strategy={"kind": "weighted_mean"})
    listed = [item.what for item in unprotected(from_data(weighted, "FILE"))]
    assert any("by which updates are weighted" in what for what in listed)
    strict = {**weighted, "evaluation": {"loss_decomposition": False}}
    strict["privacy"] = {**strict["privacy"], "strict": True}
    said = told(strict)
    assert "strategy\n" in said
    assert "counts, what models say of held-out images" in " ".join(said.split())
    open_population(from_data({**strict, "strategy": UNIFORM}, "FILE"))
    sampled = content("client_level", cohort={"kind": "poisson", "sampling_rate": 0.5})
    listed = [item.what for item in unprotected(from_data(sampled, "FILE"))]
    assert any("who takes part in each round" in what for what in listed)
    assert any("number of training images of each site, in its every answer" in w for w in listed)
    assert not any("weighted" in what for what in listed)


def test_a_site_that_fails_is_listed_as_what_the_end_of_a_run_tells() -> None:
    for what, told_by in (("abort", "the run stops there"), ("drop", "this folder names it")):
        listed = unprotected(from_data(content("client_level", on_client_failure=what), "FILE"))
        assert [told_by in item.what for item in listed].count(True) == 1


def test_held_out_labels_are_listed_and_count_as_a_hospital_s_own_where_it_is_the_unit() -> None:
    by_images = {"kind": "example_level", "clip_norm": 1.0, "noise_multiplier": 1.0}
    hospitals = content("client_level")
    images = {**hospitals, "privacy": {**hospitals["privacy"], "mechanism": by_images}}
    for scenario, whose in ((hospitals, "are not hidden"), (images, "nobody trains on")):
        (said,) = (
            item.what
            for item in unprotected(from_data(scenario, "FILE"))
            if "validation and test images" in item.what
        )
        assert "the true labels of these" in said
        assert said.endswith(whose)


def test_every_value_is_in_the_digest() -> None:
    adaptive: list[dict[str, Any]] = [
        {},
        {"quantile": 0.6},
        {"learning_rate": 0.1},
        {"count_noise": 2.0},
    ]
    others = [
        content("client_level", **forty_sites()),
        *(content("client_level", {"adaptive_clip": one}, **forty_sites()) for one in adaptive),
        content("client_level", {"clip_norm": 2.0}),
        content("client_level", {"noise_multiplier": 2.0}),
        *(content(kind) for kind in ("local", "distributed", "client_level")),
        content("local", {"clip_norm": 2.0}),
        *(
            content("local", strategy={"kind": "principal_gradient", "debias": debias})
            for debias in (False, True)
        ),
        content("distributed", {"min_survivors": 3}),
        content("distributed", {"clip_norm": 3.0}),
    ]
    digests = {from_data(one, "FILE").digest for one in others}
    assert len(digests) == len(others)
