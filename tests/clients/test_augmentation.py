"""Flips and shifts against a slow reference that treats one image at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from clients.augmentation import Augmentation
from clients.batch import Batch


def batch(num: int = 40, height: int = 6, width: int = 9) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(num, 2, height, width, generator=generator)
    return Batch(images, torch.arange(num) % 3)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moved(image: Tensor, dy: int, dx: int, most: int) -> Tensor:
    """Return the window of an image, its edges repeated, that starts at (dy, dx)."""
    _, height, width = image.shape
    padded = pad(image[None], (most,) * 4, mode="replicate")[0]
    return padded[:, most + dy : most + dy + height, most + dx : most + dx + width]


def shift_of(image: Tensor, result: Tensor, most: int) -> tuple[int, int]:
    """Return the one shift of at most `most` pixels that explains the result."""
    steps = range(-most, most + 1)
    (found,) = [
        (dy, dx) for dy in steps for dx in steps if torch.equal(moved(image, dy, dx, most), result)
    ]
    return found


@pytest.mark.parametrize("most", [1, 3])
def test_every_image_is_shifted_on_its_own_with_its_edge_repeated(most: int) -> None:
    given = batch()
    result = Augmentation(max_shift=most).apply(given, seeded())
    shifts = [
        shift_of(image, shifted, most)
        for image, shifted in zip(given.images, result.images, strict=True)
    ]
    assert len(set(shifts)) > 5
    assert result.images.is_contiguous()


def test_all_shifts_are_equally_likely() -> None:
    coordinates = torch.arange(9.0).reshape(1, 1, 3, 3).expand(9000, 1, 3, 3)
    given = Batch(coordinates, torch.zeros(9000, dtype=torch.int64))
    result = Augmentation(max_shift=1).apply(given, seeded())
    counts = result.images[:, 0, 1, 1].long().bincount(minlength=9)  # which pixel is now central
    chi_square = float(((counts - 1000) ** 2 / 1000).sum())
    assert chi_square < 26.1  # 8 degrees of freedom, one in a thousand


def test_a_shift_beyond_the_image_leaves_its_edge() -> None:
    given = batch(num=200, height=2, width=2)
    result = Augmentation(max_shift=50).apply(given, seeded())
    shifts = [  # of an image of two pixels, one pixel is as far as one can see
        shift_of(image, shifted, 1)
        for image, shifted in zip(given.images, result.images, strict=True)
    ]
    assert sum(0 not in shift for shift in shifts) > 180


@pytest.mark.parametrize(
    ("augmentation", "axis"),
    [(Augmentation(horizontal_flip=True), 3), (Augmentation(vertical_flip=True), 2)],
)
def test_half_of_the_images_are_flipped(augmentation: Augmentation, axis: int) -> None:
    given = batch(num=1000)
    result = augmentation.apply(given, seeded()).images
    mirrored = given.images.flip(axis)
    flipped = (result == mirrored).flatten(1).all(dim=1)
    kept = (result == given.images).flatten(1).all(dim=1)
    assert torch.equal(flipped, ~kept)
    assert 440 < int(flipped.sum()) < 560  # 3.8 standard deviations
    twice = augmentation.apply(Batch(result, given.labels), seeded()).images
    assert torch.equal(twice, given.images)
    otherwise = augmentation.apply(Batch(result, given.labels), seeded(1)).images
    assert not torch.equal(otherwise, given.images)


def test_flips_of_the_two_axes_are_independent() -> None:
    given = batch(num=1000)
    result = Augmentation(horizontal_flip=True, vertical_flip=True).apply(given, seeded()).images
    for axes in ([], [2], [3], [2, 3]):
        same = (result == given.images.flip(axes)).flatten(1).all(dim=1)
        assert 190 < int(same.sum()) < 310  # 250, 4.4 standard deviations


EVERYTHING = Augmentation(horizontal_flip=True, vertical_flip=True, max_shift=2)


def test_labels_and_the_given_images_stay() -> None:
    given = batch()
    before = given.images.clone()
    result = EVERYTHING.apply(given, seeded())
    assert torch.equal(result.labels, given.labels)
    assert torch.equal(given.images, before)
    assert result.images.shape == given.images.shape
    assert result.images.dtype == given.images.dtype
    assert not torch.equal(result.images, before)


def test_the_changes_are_the_generators() -> None:
    first = EVERYTHING.apply(batch(), seeded(3)).images
    state = torch.get_rng_state()
    assert torch.equal(first, EVERYTHING.apply(batch(), seeded(3)).images)
    assert not torch.equal(first, EVERYTHING.apply(batch(), seeded(4)).images)
    assert torch.equal(state, torch.get_rng_state())
    generator = seeded(3)
    EVERYTHING.apply(batch(), generator)
    assert not torch.equal(first, EVERYTHING.apply(batch(), generator).images)


def test_nothing_asked_changes_nothing_and_draws_nothing() -> None:
    generator = seeded()
    before = generator.get_state()
    assert torch.equal(Augmentation().apply(batch(), generator).images, batch().images)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(
    ("augmentation", "expected"),
    [
        (Augmentation(), False),
        (Augmentation(horizontal_flip=True), True),
        (Augmentation(vertical_flip=True), True),
        (Augmentation(max_shift=1), True),
    ],
)
def test_changes_anything_says_so(augmentation: Augmentation, expected: bool) -> None:
    assert augmentation.changes_anything is expected
    result = augmentation.apply(batch(), seeded()).images
    assert torch.equal(result, batch().images) is not expected
