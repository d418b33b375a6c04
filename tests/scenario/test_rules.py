"""What must hold between sections: each rule refuses what would fail or mislead later."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fedsim.errors import ScenarioError
from fedsim.scenario import Scenario, from_data, open_population

MEDMNIST = "data.source={kind: medmnist, name: pneumoniamnist}"
UNMAPPED = "data.label_map=null"
GREY = "{kind: synthetic, anatomy: chest, image_size: 16}"
COLOUR = "{kind: synthetic, anatomy: fundus, image_size: 16}"
TWO = "{0: 0, 1: 0, 2: 1, 3: 1, 4: 1}"

DEVICES = "population.devices=[{profile: t4, share: 1}]"
KRUM_2 = "strategy={kind: krum, num_byzantine: 2}"

BROKEN = [
    (["data.label_map={0: 0, 1: 1}"], "data.label_map", "0 to 4; missing: [2, 3, 4]"),
    (["data.label_map.5=1"], "data.label_map.5", "the source's classes are 0 to 4"),
    (["data.label_map.4=3"], "data.label_map", "without gaps, got [0, 1, 3]"),
    (["data.label_map={0: 1, 1: 1, 2: 1, 3: 1, 4: 2}"], "data.label_map", "got [1, 2]"),
    (["data.label_map={0: 0, 1: 0, 2: 0, 3: 0, 4: 0}"], "data.label_map", "leaves one class"),
    ([UNMAPPED], "data.task", "two classes, this one has 5"),
    (["data.label_map.4=2"], "data.task", "two classes, this one has 3"),
    ([MEDMNIST, UNMAPPED, "data.task=ordinal"], "data.task", "are no grades"),
    (
        ["data.task=ordinal", "data.label_map={0: 1, 1: 0, 2: 2, 3: 2, 4: 2}"],
        "data.label_map",
        "keep the order",
    ),
    (["data.positive_class=2"], "data.positive_class", "are 0 to 1"),
    (
        ["data.task=multiclass", UNMAPPED, "data.positive_class=5"],
        "data.positive_class",
        "are 0 to 4",
    ),
    (["data.class_names=[a]"], "data.class_names", "2 classes, but 1 names"),
    (["data.class_names=[a, a]"], "data.class_names.1", "'a' is listed twice"),
    (["model.widths=[8, 8, 8, 8, 8]"], "model", "at least 32 pixels, these have 16"),
    (["model={kind: monai}"], "model", "at least 64 pixels"),
    (["data.augmentation.max_shift=16"], "data.augmentation.max_shift", "smaller than the image"),
    (["data.normalisation.mean=[0.1, 0.2]"], "data.normalisation.mean", "3 channels; got 2"),
    (["data.normalisation.std=[1, 1, 1, 1]"], "data.normalisation.std", "3 channels; got 4"),
    (
        ["data.source.num_examples=1000000", "data.source.image_size=512"],
        "data.source",
        "TiB of memory",
    ),
    (["population.held_out=official"], "population.held_out", "synthetic has no official splits"),
    (["population.num_sites=26"], "population.num_sites", "need 208, there are 200"),
    (["population.partition.min_examples=70"], "population.num_sites", "at least 70 examples"),
    (
        [MEDMNIST, UNMAPPED, "population.held_out=official", "population.num_sites=600"],
        "population.num_sites",
        "need 4800, there are 4708",
    ),
    (
        ["population.held_out={validation: 0.2, test: official}"],
        "population.held_out",
        "synthetic has no official splits",
    ),
    (["population.num_sites=null"], "population.num_sites", "is required by the partition"),
    (
        ["population.partition={kind: sizes, sizes: [3, 2]}"],
        "population.num_sites",
        "makes 2 sites: leave this key out",
    ),
    (
        ["population.partition={kind: by_column}"],
        "population.partition",
        "do not say the 'site' of an image; they have no column at all",
    ),
    (
        ["population.holdout_sites=[site-0]"],
        "population.holdout_sites.0",
        "no site 'site-0'; did you mean 'site-00'? (one of site-00, site-01, site-02)",
    ),
    (["population.holdout_sites=[site-00, site-00]"], "population.holdout_sites.1", "twice"),
    (
        ["population.holdout_sites=[site-00, site-01, site-02]"],
        "population.holdout_sites",
        "leaves no site to train",
    ),
    (
        ["population.label_noise=[{kind: symmetric, rate: 0.1, sites: [Basel]}]"],
        "population.label_noise.0.sites.0",
        "no site 'Basel'",
    ),
    (
        ["population.label_noise=[{kind: mistaken, rate: 0.1, mistakes: {1: 2}}]"],
        "population.label_noise.0.mistakes.1",
        "one class of the task, 0 to 1, for another",
    ),
    (["cohort={kind: fixed_size, num_sites: 4}"], "cohort.num_sites", "there are 3"),
    (
        ["cohort={kind: fixed_size, num_sites: 3}", "population.holdout_sites=[site-01]"],
        "cohort.num_sites",
        "there are 2",
    ),
    (
        [f"evaluation.external=[{{name: other, source: {GREY}}}]"],
        "evaluation.external.0.source",
        "num_channels is 1, but 3 for data.source",
    ),
    (
        [f"evaluation.external=[{{name: site-01, source: {COLOUR}, label_map: {TWO}}}]"],
        "evaluation.external.0.name",
        "'site-01' is taken",
    ),
    (
        [f"evaluation.external=[{{name: other, source: {COLOUR}}}]"],
        "evaluation.external.0.label_map",
        "this set has 5: give a label_map",
    ),
    (
        ["population.devices=[{profile: t4, share: 0.5}, {profile: l4, share: 0.4}]"],
        "population.devices",
        "sum to 0.9, not to 1",
    ),
    (
        ["population.devices=[{profile: t4, sites: [site-00, site-02]}]"],
        "population.devices",
        "site-01: no device",
    ),
    (
        ["population.devices=[{profile: t4, sites: [site-0]}, {profile: l4, share: 1}]"],
        "population.devices.0.sites.0",
        "no site 'site-0'; did you mean",
    ),
    (
        [
            "population.devices=[{profile: t4, sites: [site-00]}, "
            "{profile: l4, sites: [site-01, site-02, site-00]}]"
        ],
        "population.devices.1.sites.2",
        "'site-00' has a device already",
    ),
    (
        ["population.devices=[{profile: t4, share: 1, precision: bf16}]"],
        "population.devices.0.precision",
        "t4 has no units for bf16: use fp32 or fp16",
    ),
    (["population.outages=[{sites: [Bern]}]"], "population.outages.0.sites.0", "no site 'Bern'"),
    (
        ["population.adversaries=[{kind: sign_flip, sites: [site-1]}]"],
        "population.adversaries.0.sites.0",
        "no site 'site-1'; did you mean",
    ),
    (
        ["population.adversaries=[{kind: sign_flip, sites: [site-01, site-01]}]"],
        "population.adversaries.0.sites.1",
        "listed twice",
    ),
    (
        ["population.adversaries=[{kind: sign_flip, share: 0.1}]"],
        "population.adversaries.0.share",
        "0.1 of 3 sites is none: give at least 0.33",
    ),
    (
        [
            "population.adversaries=[{kind: sign_flip, share: 0.2}]",
            "population.holdout_sites=[site-01]",
        ],
        "population.adversaries.0.share",
        "0.2 of 2 sites is none: give at least 0.5",
    ),
    (
        ["population.adversaries=[{kind: sign_flip, share: 0.4, from_round: 5}]"],
        "population.adversaries.0.from_round",
        "there are 4 rounds",
    ),
    (
        [
            "population.adversaries=[{kind: inner_product, epsilon: 1, sites: [site-02]}, "
            "{kind: sign_flip, share: 0.6}]"
        ],
        "population.adversaries",
        "leave no honest site: 3 of the 3",
    ),
    (
        [
            "population.adversaries=[{kind: inner_product, epsilon: 1, sites: [site-00, site-02]}]",
            "population.holdout_sites=[site-01]",
        ],
        "population.adversaries",
        "leave no honest site: 2 of the 2",
    ),
    (
        ["population.adversaries=[{kind: label_flip, share: 0.4, mapping: {1: 2}}]"],
        "population.adversaries.0.mapping.1",
        "one class of the task, 0 to 1, for another",
    ),
    (
        ["population.adversaries=[{kind: sign_flip}]"],
        "population.adversaries.0",
        "give share or sites",
    ),
    (
        ["population.adversaries=[{kind: gaussian, share: 0.4}]"],
        "population.adversaries.0",
        "give std or norm_ratio",
    ),
    (["round_policy={kind: deadline, seconds: 5}"], "round_policy", "give population.devices"),
    (
        [DEVICES, "round_policy={kind: over_select}"],
        "round_policy",
        "no site to add to a cohort of all",
    ),
    (
        [
            DEVICES,
            "round_policy={kind: buffered_async, buffer_size: 2}",
            "cohort={kind: poisson, sampling_rate: 0.5}",
        ],
        "cohort",
        "poisson has no fixed number",
    ),
    (
        [
            DEVICES,
            "round_policy={kind: buffered_async, buffer_size: 3}",
            "population.holdout_sites=[site-01]",
        ],
        "round_policy.buffer_size",
        "at most 2",
    ),
    (["client.batch=fit"], "client.batch", "give population.devices"),
    (
        ["client.optimizer.momentum=0.9", "strategy={kind: fed_nova}"],
        "strategy.momentum",
        "but the sites' is 0.9",
    ),
    (["strategy={kind: q_fed_avg, learning_rate: 0.7}"], "strategy.learning_rate", "give 0.1 here"),
    (["strategy={kind: krum, num_byzantine: 1}"], "strategy.num_byzantine", "need 5 sites"),
    (
        ["population.num_sites=9", "cohort={kind: fixed_size, num_sites: 6}", KRUM_2],
        "strategy.num_byzantine",
        "of 6 sites in a round Krum withstands at most 1",
    ),
    (
        ["population.num_sites=7", "strategy={kind: krum, num_byzantine: 2, num_selected: 6}"],
        "strategy.num_selected",
        "give 5 at most",
    ),
    (
        [
            "population.devices=[{profile: t4, share: 1, precision: fp16}]",
            "strategy={kind: fed_nova}",
        ],
        "population.devices.0.precision",
        "fed_nova counts steps, and fp16 leaves some out",
    ),
    (
        [
            DEVICES,
            "client.batch=fit",
            "client.objective={kind: margin, form: batch_probabilities}",
        ],
        "client.batch",
        "no mean over examples",
    ),
    (
        ["client.objective={kind: cross_entropy, class_weights: [1, 1, 1]}"],
        "client.objective.class_weights",
        "one weight per class (2), got 3",
    ),
    (["client.schedule={kind: constant, warmup_rounds: 4}"], "client.schedule.warmup_rounds", "4"),
    (
        ["strategy={kind: flower, name: FedAvg}", "server_optimizer={kind: sgd}"],
        "server_optimizer",
        "such as FedAvgM",
    ),
    (["strategy={kind: flower, name: FedAdm}"], "strategy.name", "did you mean 'FedAdam'?"),
    (["strategy={kind: flower, name: Strategy}"], "strategy.name", "or a scenario cannot use it"),
    (["strategy={kind: flower, name: FedXgbCyclic}"], "strategy.name", "passes on trees"),
    (["evaluation.metrics.1=aurc"], "evaluation.metrics.1", "no metric; did you mean 'auroc'?"),
    (["evaluation.metrics.1=quadratic_kappa"], "evaluation.metrics.1", "is not for a binary task"),
    (["evaluation.metrics=[auroc, auroc]"], "evaluation.metrics.1", "listed twice"),
    (["evaluation.select_by=accuracy"], "evaluation.select_by", "is not among evaluation.metrics"),
]


@pytest.mark.parametrize(("changes", "key", "says"), BROKEN, ids=lambda v: str(v)[:40])
def test_a_broken_rule_names_its_key(author: Any, changes: list[str], key: str, says: str) -> None:
    message = author.complaint(changes=tuple(changes))
    told = re.split(r"\n(?=FILE|--set)", message)
    assert len(told) == 1, message
    assert re.match(rf"(FILE:\d+:\d+|--set .*): {re.escape(key)}\n  ", told[0]), message
    assert says in message


@pytest.mark.parametrize(
    "changes",
    [
        ["data.task=ordinal", "data.label_map={0: 0, 1: 1, 2: 2, 3: 2, 4: 2}"],
        ["data.task=ordinal", "data.label_map={0: 2, 1: 1, 2: 0, 3: 0, 4: 0}"],
        ["data.task=multiclass"],
        [MEDMNIST, "data.task=ordinal", "data.label_map={0: 1, 1: 0}"],
        ["data.positive_class=0"],
        ["data.augmentation.max_shift=15"],
        ["data.normalisation.mean=[0.1, 0.2, 0.3]"],
        ["population.num_sites=25"],
        ["cohort={kind: fixed_size, num_sites: 3}"],
        ["population={partition: {kind: sizes, sizes: [3, 2]}}"],
        ["population={num_sites: 23, partition: {kind: sizes, sizes: fets2022, min_examples: 4}}"],
        ["population.holdout_sites=[site-00, site-01]"],
        ["population.label_noise=[{kind: symmetric, rate: [0.1, 0.2]}]"],
        [f"evaluation.external=[{{name: other, source: {COLOUR}, label_map: {TWO}}}]"],
        ["client.schedule={kind: constant, warmup_rounds: 3}"],
        ["strategy={kind: flower, name: FedAvg}"],
        ["population.devices=[{profile: t4, share: 0.1}, {profile: l4, share: 0.9}]"],
        ["population.devices=[{profile: t4, sites: [site-00, site-01, site-02]}]"],
        [
            "population.devices=[{profile: t4, sites: [site-00, site-01]}]",
            "population.holdout_sites=[site-02]",
        ],
        ["population.outages=[{sites: [site-00], from_round: 40}]"],
        ["population.adversaries=[{kind: sign_flip, share: 0.6, from_round: 4}]"],
        [
            "population.adversaries=[{kind: label_flip, sites: [site-00]}, "
            "{kind: scaled_update, factor: 3, sites: [site-00]}]"
        ],
        [
            "population.adversaries=[{kind: sign_flip, sites: [site-00]}]",
            "population.holdout_sites=[site-00]",
        ],
        [DEVICES, "round_policy={kind: buffered_async, buffer_size: 3}"],
        [
            DEVICES,
            "round_policy={kind: over_select, extra: 0.5}",
            "cohort={kind: poisson, sampling_rate: 0.5}",
        ],
        [DEVICES, "client.batch=fit", "client.objective={kind: margin}"],
        ["client.optimizer.momentum=0.9", "strategy={kind: fed_nova, momentum: 0.9}"],
        ["client.optimizer={kind: adam, learning_rate: 0.1}", "strategy={kind: fed_nova}"],
        ["strategy={kind: q_fed_avg, learning_rate: 0.1}"],
        ["strategy={kind: krum}"],
        ["population.num_sites=7", "strategy={kind: krum, num_byzantine: 2, num_selected: 5}"],
        ["population.num_sites=7", KRUM_2],
        ["population.num_sites=9", "cohort={kind: fixed_size, num_sites: 7}", KRUM_2],
        ["population.num_sites=9", "cohort={kind: poisson, sampling_rate: 0.2}", KRUM_2],
        ["server_optimizer={kind: fed_adam, learning_rate: 0.01, tau: 1.0e-3}"],
        ["model.widths=[8, 8, 8, 8]"],
    ],
    ids=str,
)
def test_what_is_just_allowed_is_allowed(author: Any, changes: list[str]) -> None:
    author.load(changes=tuple(changes))


def test_all_broken_rules_are_told(author: Any) -> None:
    message = author.complaint(
        changes=("population.num_sites=99", "evaluation.select_by=f1", "data.positive_class=7")
    )
    assert message.count("--set") == 3


def crowded(author: Any, **changes: Any) -> Scenario:
    """Return a scenario of few examples."""
    data = author.load().resolved()
    data["population"] |= {
        "num_sites": 2,
        "partition": {"kind": "iid", "min_examples": 1},
        **changes.pop("population", {}),
    }
    data["data"]["source"] |= {"num_examples": 8, **changes.pop("source", {})}
    data["client"] |= changes.pop("client", {})
    return from_data(data | changes, "few")


def complaint(scenario: Scenario) -> str:
    with pytest.raises(ScenarioError) as caught:
        open_population(scenario)
    return str(caught.value)


def test_sites_that_suffice_are_opened(author: Any) -> None:
    population = open_population(author.load())
    assert len(population) == 3
    assert population.class_names == ("grade 0 + grade 1", "grade 2 + grade 3 + grade 4")


def test_a_site_needs_training_examples(author: Any) -> None:
    population = {"num_sites": 8, "held_out": {"validation": 0.49, "test": 0.49}}
    message = complaint(crowded(author, population=population))
    assert message.startswith("study: population.partition.min_examples\n  site-0")
    assert "would have no training example" in message


def test_a_full_batch_must_fit_into_the_smallest_site(author: Any) -> None:
    client = {"drop_last": True, "batch_size": 60}
    scenario = crowded(author, source={"num_examples": 100}, client=client)
    message = complaint(scenario)
    assert message.startswith("study: client.batch_size\n  with drop_last, site-0")
    kept = crowded(author, source={"num_examples": 100}, client=client | {"drop_last": False})
    assert len(open_population(kept)) == 2


def test_a_full_batch_of_a_device_must_fit_into_its_sites(author: Any) -> None:
    client = {"drop_last": True, "batch_size": 8}
    devices = [
        {"profile": "t4", "sites": ["site-00"]},
        {"profile": "l4", "sites": ["site-01"], "batch_size": 60},
    ]
    scenario = crowded(
        author, source={"num_examples": 100}, client=client, population={"devices": devices}
    )
    message = complaint(scenario)
    assert message.startswith("study: population.devices.1.batch_size\n  with client.drop_last, s")
    assert "never fills a batch of 60" in message


def test_there_must_be_something_to_validate_on(author: Any) -> None:
    held_out = {"validation": 0.001, "test": 0.2}
    message = complaint(crowded(author, population={"held_out": held_out}))
    assert "study: population.held_out\n  there is no validation image" in message


@pytest.mark.parametrize(
    "metrics", [["auroc", "loss"], ["sensitivity", "f1", "accuracy"], ["balanced_accuracy"]]
)
def test_metrics_need_their_classes_among_the_held_out_images(
    author: Any, metrics: list[str]
) -> None:
    scenario = crowded(
        author,
        source={"num_examples": 100, "class_weights": [1, 1, 0, 0, 0]},
        evaluation={"metrics": metrics, "select_by": metrics[0]},
    )
    needy = [m for m in metrics if m not in ("loss", "accuracy")]
    message = complaint(scenario)
    assert f"study: evaluation.metrics\n  {', '.join(needy)} cannot be computed" in message
    assert "validation images shows grade 2 + grade 3 + grade 4" in message
    assert message.count("study: ") == 2, "validation and test"


def test_metrics_that_need_no_second_class_do_without(author: Any) -> None:
    scenario = crowded(
        author,
        source={"num_examples": 100, "class_weights": [1, 1, 0, 0, 0]},
        evaluation={"metrics": ["specificity", "loss"], "select_by": "loss"},
    )
    assert len(open_population(scenario)) == 2
