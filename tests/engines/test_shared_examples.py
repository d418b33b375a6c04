"""Examples lie in one block: made once, read in place by all, and no memory for those unused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim.data.population import Population
from fedsim.data.source import SPLITS
from fedsim.engines import shared
from fedsim.engines.shared_examples import Layout, SharedExamples
from fedsim.scenario import Scenario, open_population


@pytest.fixture
def populations(tiny: Callable[..., Scenario]) -> Any:
    """Yield what two processes would have, and one that keeps its examples for itself."""
    scenario = tiny()
    alone = open_population(scenario)
    layout = Layout(alone, scenario.data.source.facts().image_shape)
    made, attached = shared.Made(layout.num_bytes, shared.new_name()), shared.Attached()
    blocks = made.buffer, attached.memory(made.memory.name)
    take = partial(shared.take, made.memory.name)
    yield *(replace(alone, kept=SharedExamples(layout, block, take)) for block in blocks), alone
    attached.close()
    made.close()


def test_examples_are_the_same_wherever_they_lie(
    populations: tuple[Population, Population, Population],
) -> None:
    one, other, alone = populations
    for site in range(len(alone)):
        for split in SPLITS:
            expected = alone.examples(site, split)
            for found in (one.examples(site, split), other.examples(site, split)):
                np.testing.assert_array_equal(found.images, expected.images)
                np.testing.assert_array_equal(found.labels, expected.labels)
                assert found.images.dtype == np.float32
                assert found.images.flags.aligned


def test_what_one_process_made_another_reads_in_place(
    populations: tuple[Population, Population, Population], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, _ = populations
    assert (1, "train") not in other.kept
    mine = one.examples(1, "train")
    monkeypatch.setattr(Population, "make_images", lambda *_: pytest.fail("made twice"))
    theirs = other.examples(1, "train")
    mine.images[0] = 7.0
    assert (theirs.images[0] == 7.0).all()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="looks at Linux's shared memory")
def test_examples_that_nobody_needs_take_no_memory() -> None:
    made = shared.Made(10**9, shared.new_name())
    made.buffer[500] = 1
    assert Path(f"/dev/shm/{made.memory.name}").stat().st_blocks * 512 < 10**6
    made.close()


def test_memory_is_taken_before_examples_are_written(tiny: Callable[..., Scenario]) -> None:
    scenario = tiny()
    alone = open_population(scenario)
    layout = Layout(alone, scenario.data.source.facts().image_shape)
    block = memoryview(bytearray(layout.num_bytes))
    taken = np.zeros(layout.num_bytes, bool)

    def take(start: int, num_bytes: int) -> None:
        taken[start : start + num_bytes] = True
        assert not any(block[start : start + num_bytes])

    kept = SharedExamples(layout, block, take)
    for site in range(len(alone)):
        replace(alone, kept=kept).examples(site, "train")
    written = np.frombuffer(block, np.uint8) != 0
    assert written[len(layout.places) :].any()
    assert not (written & ~taken)[len(layout.places) :].any()


def test_real_numbers_keep_every_bit(tiny: Callable[..., Scenario]) -> None:
    source = {"kind": "synthetic", "anatomy": "chest", "image_size": 16, "num_examples": 120}
    data = {"source": source, "task": "regression", "target": "lesion_area"}
    scenario = tiny(data={**data, "target_range": [0, 7]})
    alone = open_population(scenario)
    layout = Layout(alone, scenario.data.source.facts().image_shape)
    block = memoryview(bytearray(layout.num_bytes))
    shared_out = replace(alone, kept=SharedExamples(layout, block, lambda *_: None))
    assert np.any(alone.learned(np.arange(120)) % 1)
    for site in range(len(alone)):
        for split in SPLITS:
            expected = alone.examples(site, split).labels
            found = shared_out.examples(site, split).labels
            assert found.dtype == expected.dtype == np.float32
            assert found.tobytes() == expected.tobytes()
