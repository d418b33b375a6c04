"""What needs every site is refused where sites are drawn, with a way out; the rest is allowed."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fedsim.errors import DataError
from fedsim.scenario import open_population

DRAWN = (
    "population={num_sites: 1000000, partition: {kind: resampled, examples_per_site: [5, 9]}}",
    "evaluation.loss_decomposition=false",
)

BROKEN = [
    (
        "population.label_noise=[{kind: symmetric, rate: 0.1}]",
        "population.label_noise",
        "share their examples, so no site can have labels of its own: leave it out, or choose a "
        "partition that divides",
    ),
    ("population.holdout_sites=[site-000007]", "population.holdout_sites", "leave it out"),
    ("evaluation.loss_decomposition=true", "evaluation.loss_decomposition", "set it to false"),
    ("baselines=[pooled, local]", "baselines.1", "trains every site alone"),
    (
        "client={epochs: 1, batch_size: 6, drop_last: true}",
        "client.batch_size",
        "a site that draws 5 training examples never fills a batch of 6: use at most 5",
    ),
    (
        "population.partition.examples_per_site=[3, 201]",
        "population.partition.examples_per_site",
        "a site may draw 201 examples, there are 200: ask for fewer",
    ),
    (
        "population.partition.examples_per_site=[9, 5]",
        "population.partition.examples_per_site",
        "the lower number first",
    ),
    ("population.num_sites=null", "population.num_sites", "required by the partition resampled"),
    (
        "population.partition.min_examples=3",
        "population.partition.min_examples",
        "unknown key of kind resampled",
    ),
    (
        "cohort={kind: fixed_size, num_sites: 1000001}",
        "cohort.num_sites",
        "there are 1000000",
    ),
    ("cohort={kind: cyclic, num_sites: 1000001}", "cohort.num_sites", "there are 1000000"),
]


@pytest.mark.parametrize(("change", "key", "says"), BROKEN, ids=lambda v: str(v)[:40])
def test_a_broken_rule_names_its_key(author: Any, change: str, key: str, says: str) -> None:
    message = author.complaint(changes=(*DRAWN, change))
    assert re.match(rf"--set .*: {re.escape(key)}\n  ", message), message
    assert says in message


@pytest.mark.parametrize(
    "change",
    [
        "baselines=[pooled]",
        "client={epochs: 1, batch_size: 5, drop_last: true}",
        "population.partition.examples_per_site=[3, 200]",
        "population.partition.alpha=0.5",
        "population.num_sites=10000000",
        "population.appearance={kind: scanner, sites: {site-999999: {gamma: 1.2}}}",
        "cohort={kind: fixed_size, num_sites: 1000000}",
        "evaluation.loss_decomposition=false",
    ],
)
def test_what_is_just_allowed_is_allowed(author: Any, change: str) -> None:
    author.load(changes=(*DRAWN, change))


def test_sites_without_number_take_part_in_few_at_a_time(author: Any) -> None:
    many, few = "population.num_sites=1000000000", "cohort={kind: fixed_size, num_sites: 9}"
    author.load(changes=(*DRAWN, many, few))
    assert "cohort\n  all sites take part in every round, at most 10,000,000: use" in (
        author.complaint(changes=(*DRAWN, many))
    )
    turns = "cohort={kind: cyclic, num_sites: 9}"
    assert "cohort\n  all sites take turns, at most 10,000,000: use" in (
        author.complaint(changes=(*DRAWN, many, turns))
    )
    attack = "population.adversaries=[{kind: sign_flip, share: 0.1}]"
    assert "population.adversaries\n  who attacks is drawn among all sites, at most" in (
        author.complaint(changes=(*DRAWN, many, few, attack))
    )


def test_the_default_that_cannot_be_is_pointed_at(author: Any) -> None:
    message = author.complaint(changes=DRAWN[:1])
    assert "evaluation.loss_decomposition\n  it looks at the training examples" in message


def test_a_pool_that_holding_out_makes_too_small_is_told(author: Any) -> None:
    change = "population.partition.examples_per_site=[3, 199]"
    with pytest.raises(DataError, match="examples_per_site: a site may draw 199"):
        open_population(author.load(changes=(*DRAWN, change)))


def test_names_of_sites_that_do_not_exist_are_told_in_a_moment(author: Any) -> None:
    change = "population.appearance={kind: scanner, sites: {site-00007: {gamma: 1.2}}}"
    message = author.complaint(changes=(*DRAWN, change))
    assert "there is no site 'site-00007'; did you mean 'site-0000" in message
    assert "(one of site-000000, site-000001" in message
