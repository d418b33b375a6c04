"""The lesion area of synthetic images is what the pixels show, and costs no bit of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from fedsim.data.synthetic import Synthetic
from fedsim.seeds import Streams

STREAMS = Streams(7)
SOURCES = {
    "chest": Synthetic(anatomy="chest", image_size=48, num_examples=120),
    "fundus": Synthetic(anatomy="fundus", image_size=48, num_examples=120),
    "patients": Synthetic(anatomy="fundus", image_size=32, num_examples=60, images_per_patient=3),
}
each = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDSIM_CACHE_DIR", str(tmp_path / "cache"))


def areas(source: Synthetic) -> NDArray[np.float32]:
    return source.open(STREAMS).targets["lesion_area"]()["all"]


@each
def test_it_is_the_share_of_pixels_that_lesions_change(source: Synthetic) -> None:
    """Images are drawn again without lesions: what they change most are the lesions.

    A pixel counts as lesion where it is at least half as changed as lesions change it at most;
    soft edges and textured opacities make that an estimate.
    """
    labels = source.open(STREAMS).labels["all"]
    numbers = np.arange(source.num_examples)
    with_lesions, masks = source.draw(STREAMS, numbers, labels)
    without, _ = source.draw(STREAMS, numbers, np.zeros_like(labels))
    changed = np.abs(with_lesions - without).max(axis=1)
    found = areas(source)
    assert found.dtype == np.float32
    for area, change, mask, label in zip(found, changed, masks, labels, strict=True):
        assert area == pytest.approx(100 * np.count_nonzero(mask) / mask.size, rel=1e-6)
        assert area <= 100 * np.mean(change > 0) + 1e-6
        assert (area == 0) or label > 0
        if mask.any():
            assert change[mask].mean() > 3 * change[~mask].mean()
    assert found.max() > 2
    seen = 100 * np.mean(changed > 0.5 * changed.max(), axis=(1, 2))
    ill = labels > 0
    assert spearmanr(seen[ill], found[ill]).statistic > 0.7


@each
def test_it_is_zero_where_nothing_is_and_grows_with_the_grade(source: Synthetic) -> None:
    labels, found = source.open(STREAMS).labels["all"], areas(source)
    assert not found[labels == 0].any()
    means = [found[labels == label].mean() for label in range(labels.max() + 1)]
    assert means == sorted(means)


@each
def test_asking_for_it_changes_no_bit_of_images_and_labels(source: Synthetic) -> None:
    before, after = source.open(STREAMS), source.open(STREAMS)
    after.targets["lesion_area"]()
    everything = np.arange(source.num_examples)
    assert after.checksums == before.checksums
    assert after.labels["all"].tobytes() == before.labels["all"].tobytes()
    images = [data.images("all", everything).tobytes() for data in (after, before)]
    assert images[0] == images[1]


def test_it_is_drawn_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    source = SOURCES["chest"]
    first = areas(source)
    monkeypatch.setattr(Synthetic, "_blocks", lambda *_: pytest.fail("drawn again"))
    assert areas(source).tobytes() == first.tobytes()
