"""Random streams: a function of seed, purpose and keys alone, the same for ever."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedsim.seeds import Streams

PURPOSES = st.sampled_from(["partition", "batches", "cohort", "scanner", "initial_model"])
KEYS = st.dictionaries(st.sampled_from(["round", "site", "index"]), st.integers(0, 99))
NAMES = st.tuples(st.integers(0, 50), PURPOSES, KEYS)


def numbers(streams: Streams, purpose: str, **keys: int) -> list[int]:
    return [int(n) for n in streams.numpy(purpose, **keys).integers(1000, size=4)]


def test_streams_are_those_of_yesterday() -> None:
    streams = Streams(7)
    assert streams.key("partition") == 277059186661608772834666587182022341729
    assert streams.key("batches", round=3, site=2) == 116926584107732044639758313224717516210
    assert numbers(streams, "batches", round=3, site=2) == [613, 701, 177, 51]


def test_torch_streams_are_those_of_yesterday() -> None:
    streams = Streams(7)
    generator = streams.torch("batches", round=3, site=2)
    assert torch.randint(1000, (4,), generator=generator).tolist() == [796, 807, 839, 263]
    with streams.torch_default("initial_model"):
        assert torch.randint(1000, (4,)).tolist() == [204, 646, 170, 479]


@given(NAMES, NAMES)
def test_two_names_have_two_streams(a: Any, b: Any) -> None:
    keys = [Streams(seed).key(purpose, **keys) for seed, purpose, keys in (a, b)]
    assert (keys[0] == keys[1]) == (a == b)


def test_the_order_of_keys_does_not_matter() -> None:
    streams = Streams(0)
    assert streams.key("batches", site=1, round=2) == streams.key("batches", round=2, site=1)


def test_keys_do_not_run_into_each_other() -> None:
    streams = Streams(1)
    assert streams.key("batches", round=1, site=11) != streams.key("batches", round=11, site=1)
    assert Streams(11).key("1") != Streams(1).key("11")


def test_a_stream_does_not_depend_on_who_drew_before() -> None:
    streams = Streams(3)
    before = numbers(streams, "batches", round=1)
    streams.numpy("cohort", round=1).random(100)
    streams.torch("batches", round=1)
    assert numbers(streams, "batches", round=1) == before
    assert numbers(Streams(3), "batches", round=1) == before


def test_streams_are_uncorrelated() -> None:
    draws = np.array([Streams(0).numpy("noise", site=site).normal(size=2000) for site in range(20)])
    correlations = np.corrcoef(draws)[np.triu_indices(20, 1)]
    assert np.abs(correlations).max() < 0.1
    assert np.abs(np.corrcoef(draws[0], draws[0] + draws[1])[0, 1]) > 0.1, "would notice"


def test_the_global_generator_is_put_back() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with Streams(0).torch_default("training", round=1, site=0):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.equal(inside, expected)


def test_the_global_generator_is_put_back_after_an_error() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with suppress(RuntimeError), Streams(0).torch_default("training"):
        raise RuntimeError(f"after drawing {torch.rand(3)}")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_global_generator_starts_where_the_named_stream_does() -> None:
    with Streams(9).torch_default("training", round=1):
        inside = torch.rand(3)
    assert torch.equal(inside, torch.rand(3, generator=Streams(9).torch("training", round=1)))
