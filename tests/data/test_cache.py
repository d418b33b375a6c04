"""The cache: read back what was kept, notice damage, do without where nothing can be kept."""

import logging
from pathlib import Path

import numpy as np
import pytest

from fedsim.data import cache
from fedsim.data import synthetic as module
from fedsim.data.synthetic import Synthetic
from fedsim.seeds import Streams

STREAMS = Streams(seed=7)


@pytest.fixture(autouse=True)
def cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDSIM_CACHE_DIR", str(tmp_path))
    return tmp_path


def request(num_examples=10):
    data = Synthetic(num_examples=num_examples).open(STREAMS)
    return data.images("all", np.arange(num_examples))


@pytest.fixture
def num_drawn(monkeypatch):
    """Counts the images that are drawn rather than read."""
    counts = []
    draw = module.fundus_photographs.draw

    def counting(rngs, *others):
        counts.append(len(rngs))
        return draw(rngs, *others)

    monkeypatch.setattr(module.fundus_photographs, "draw", counting)
    return lambda: sum(counts)


def test_the_second_run_reads_what_the_first_drew(num_drawn, cache_dir):
    first = request()
    assert num_drawn() == 10
    np.testing.assert_array_equal(request(), first)
    assert num_drawn() == 10
    assert len(list(cache_dir.iterdir())) == 1


@pytest.mark.parametrize("damage", ["cut", "emptied", "changed", "replaced"])
def test_a_damaged_file_is_made_again(damage, num_drawn, cache_dir):
    first = request()
    (file,) = cache_dir.iterdir()
    content = bytearray(file.read_bytes())
    if damage == "changed":
        content[len(content) // 2] ^= 1
    other = {"cut": content[:-1000], "emptied": b"", "changed": content, "replaced": b"x" * 100}
    file.write_bytes(other[damage])
    np.testing.assert_array_equal(request(), first)
    assert num_drawn() == 20
    np.testing.assert_array_equal(request(), first)
    assert num_drawn() == 20


def test_no_folder_only_means_no_cache(monkeypatch, cache_dir, caplog):
    first = request()
    in_the_way = cache_dir / "a file"
    in_the_way.touch()
    monkeypatch.setenv("FEDSIM_CACHE_DIR", str(in_the_way))
    with caplog.at_level(logging.WARNING, "fedsim"):
        np.testing.assert_array_equal(request(), first)
    assert "cannot keep" in caplog.text


def test_nothing_but_a_cached_file_is_replaced(cache_dir, caplog):
    first = request()
    (file,) = cache_dir.iterdir()
    file.unlink()
    elsewhere = cache_dir / "elsewhere"
    elsewhere.write_text("precious")
    file.symlink_to(elsewhere)
    np.testing.assert_array_equal(request(), first)
    assert "no regular file" in caplog.text
    assert elsewhere.read_text() == "precious"
    with pytest.raises(ValueError, match="plain file name"):
        cache.load_or_make("../x.npy", (1,), lambda: np.zeros(1, np.uint8))


def test_large_sets_are_drawn_on_demand(monkeypatch, num_drawn, cache_dir):
    first = request()
    monkeypatch.setattr(module, "MAX_CACHED_BYTES", 1000)
    data = Synthetic(num_examples=10).open(STREAMS)
    np.testing.assert_array_equal(data.images("all", np.array([7, 2])), first[[7, 2]])
    assert num_drawn() == 12


def test_the_cache_folder_can_be_chosen(monkeypatch, cache_dir):
    assert cache.folder() == cache_dir
    monkeypatch.delenv("FEDSIM_CACHE_DIR")
    assert cache.folder() != cache_dir
    assert isinstance(cache.folder(), Path)
