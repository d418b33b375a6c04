"""Synthetic images: each by itself, lesions where the masks say, a signal that can be dialled."""

import logging
import math
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from fedsim.data import cache, drawing
from fedsim.data import synthetic as module
from fedsim.data.synthetic import Synthetic
from fedsim.errors import DataError
from fedsim.seeds import Streams

NUM_CLASSES = {"chest": 2, "fundus": 5}
STREAMS = Streams(seed=7)

both = pytest.mark.parametrize("anatomy", ["chest", "fundus"])


@pytest.fixture(autouse=True)
def cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDSIM_CACHE_DIR", str(tmp_path))
    return tmp_path


def draw(anatomy, indices, labels, streams=STREAMS, **settings):
    source = Synthetic(anatomy=anatomy, **settings)
    return source.draw(streams, np.asarray(indices), np.asarray(labels))


# One image is one image


@both
@pytest.mark.parametrize("image_size", [17, 32, 50])
@pytest.mark.parametrize("images_at_once", [1, 3, 8])
def test_an_image_does_not_depend_on_what_is_drawn_with_it(
    anatomy, image_size, images_at_once, monkeypatch
):
    indices = np.arange(20)
    labels = indices % NUM_CLASSES[anatomy]
    images, masks = draw(anatomy, indices, labels, image_size=image_size)
    order = np.random.default_rng(0).permutation(20)
    monkeypatch.setattr(module, "PIXELS_AT_ONCE", images_at_once * image_size**2)
    again, masks_again = draw(anatomy, order, labels[order], image_size=image_size)
    np.testing.assert_array_equal(again, images[order])
    np.testing.assert_array_equal(masks_again, masks[order])


@both
def test_requested_images_are_those_of_the_whole_set(anatomy):
    data = Synthetic(anatomy=anatomy, num_examples=30).open(STREAMS)
    everything = data.images("all", np.arange(30))
    some = np.array([29, 3, 3, 17])
    np.testing.assert_array_equal(data.images("all", some), everything[some])
    assert data.images("all", np.array([], np.int64)).shape == (0, *everything.shape[1:])


@both
def test_seeds_and_indices_give_different_images(anatomy):
    images, _ = draw(anatomy, [0, 1], [1, 1])
    other, _ = draw(anatomy, [0, 1], [1, 1], streams=Streams(seed=8))
    assert np.abs(images[0] - images[1]).max() > 0.1
    assert np.abs(images - other).max() > 0.1


@both
def test_facts_describe_the_images(anatomy):
    source = Synthetic(anatomy=anatomy, image_size=20, num_examples=40)
    facts, data = source.facts(), source.open(STREAMS)
    images = data.images("all", np.arange(40))
    assert images.shape == (40, facts.num_channels, facts.image_size, facts.image_size)
    assert images.dtype == np.uint8
    assert images.flags.writeable
    assert set(data.labels["all"]) == set(range(len(facts.class_names)))
    assert facts.num_examples == {"all": 40}
    assert facts.ordinal == (anatomy == "fundus")


def test_unknown_split_and_index_are_refused():
    data = Synthetic(num_examples=5).open(STREAMS)
    with pytest.raises(DataError, match="no split 'train'"):
        data.images("train", np.arange(2))
    with pytest.raises(DataError, match="from 0 to 4"):
        data.images("all", np.array([5]))


# Lesions


@both
def test_masks_are_empty_without_disease(anatomy):
    _, masks = draw(anatomy, range(20), [0] * 20)
    assert not masks.any()
    _, masks = draw(anatomy, range(100), [NUM_CLASSES[anatomy] - 1] * 100)
    assert masks.any(axis=(1, 2)).mean() > 0.85  # some opacities hide behind the heart


def test_higher_grades_have_more_lesions():
    areas = [draw("fundus", range(40), [grade] * 40)[1].mean() for grade in range(5)]
    assert (np.diff(areas) > 0).all()


@both
def test_the_label_changes_only_lesions(anatomy):
    healthy, _ = draw(anatomy, range(20), [0] * 20, image_size=64)
    ill, masks = draw(anatomy, range(20), [1] * 20, image_size=64)
    change = np.abs(ill - healthy).max(axis=1)
    assert change[masks].mean() > 20 * change[~masks].mean()


def test_opacities_brighten_the_lungs():
    healthy, _ = draw("chest", range(20), [0] * 20)
    ill, masks = draw("chest", range(20), [1] * 20)
    assert healthy[:, 0][masks].mean() < 0.5  # where the opacities will be there is dark lung
    assert (ill - healthy)[:, 0][masks].min() > 0.1


@both
def test_signal_scales_the_contrast_of_lesions(anatomy):
    label = [NUM_CLASSES[anatomy] - 1] * 20
    healthy, _ = draw(anatomy, range(20), [0] * 20)
    contrast = {}
    for signal in (0.25, 1.0):
        images, masks = draw(anatomy, range(20), label, signal=signal)
        contrast[signal] = np.abs(images - healthy).mean(axis=1)[masks].mean()
    assert contrast[1.0] > 2 * contrast[0.25] > 0


def test_a_blob_is_the_textbook_ellipse():
    rng = np.random.default_rng(0)
    centres, radii = rng.uniform(-0.5, 0.5, (4, 2)), rng.uniform(0.1, 0.6, (4, 2))
    angles = rng.uniform(0, 3, 4)
    y, x = drawing.grid(16)
    batch = [np.float32(v)[:, None, None] for v in (*centres.T, *radii.T, angles)]
    drawn = drawing.blob(y, x, (batch[0], batch[1]), (batch[2], batch[3]), batch[4], 0.3)
    for i in range(4):
        for row, column in np.ndindex(16, 16):
            down = (row + 0.5) / 8 - 1 - centres[i, 0]
            right = (column + 0.5) / 8 - 1 - centres[i, 1]
            cos, sin = math.cos(angles[i]), math.sin(angles[i])
            across = (right * cos + down * sin) / radii[i, 1]
            along = (down * cos - right * sin) / radii[i, 0]
            expected = 1 / (1 + math.exp(min((math.hypot(across, along) - 1) / 0.3, 30)))
            assert drawn[i, row, column] == pytest.approx(expected, abs=1e-5)


def test_blur_is_that_of_scipy():
    from scipy.ndimage import gaussian_filter

    image = np.random.default_rng(0).random((24, 20), np.float32)
    expected = gaussian_filter(image.astype(float), 1.3, truncate=4 / 1.3)
    np.testing.assert_allclose(drawing.blur(image, 1.3), expected, atol=1e-6)


@pytest.mark.parametrize("fineness", [6, 16])
def test_textures_have_variance_one_and_the_stated_correlation(fineness):
    rngs = [np.random.default_rng(i) for i in range(400)]
    fields = drawing.texture(rngs, 48, fineness).astype(float)
    assert fields.var(axis=(1, 2)).mean() == pytest.approx(1, abs=0.05)
    distance = 48 // fineness
    products = (fields[:, :, :-distance] * fields[:, :, distance:]).mean()
    assert products / (fields**2).mean() == pytest.approx(math.exp(-1 / 4), abs=0.04)


# Classes


def test_class_weights_set_the_class_frequencies():
    source = Synthetic(num_examples=4000, class_weights=(4, 2, 1, 1, 0))
    counts = np.bincount(source.open(STREAMS).labels["all"], minlength=5)
    np.testing.assert_allclose(counts / 4000, [0.5, 0.25, 0.125, 0.125, 0], atol=0.03)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"anatomy": "chest", "class_weights": (1, 1, 1)}, "expected 2 weights.*opacity; got 3"),
        ({"class_weights": (0, 0, 0, 0, 0)}, "at least one weight above 0"),
        ({"class_weights": (1, 1, 1, 1, -1)}, "greater than or equal to 0"),
        ({"signal": 0}, "greater than 0"),
        ({"image_size": 8}, "greater than or equal to 16"),
    ],
)
def test_impossible_settings_are_refused(settings, complaint):
    with pytest.raises(ValidationError, match=complaint):
        Synthetic(**settings)


def test_checksum_tells_seeds_and_settings_apart():
    def checksum(seed=7, **settings):
        return Synthetic(**settings).open(Streams(seed=seed)).checksums["synthetic/fundus"]

    assert checksum() == checksum()
    assert len({checksum(), checksum(seed=8), checksum(signal=0.5), checksum(image_size=33)}) == 4


# Cache


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


# Difficulty


@pytest.mark.slow
def test_the_signal_sets_the_difficulty():
    torch = pytest.importorskip("torch")
    from sklearn.metrics import roc_auc_score

    def auroc(signal):
        data = Synthetic(anatomy="chest", num_examples=1200, signal=signal).open(STREAMS)
        x = torch.from_numpy(data.images("all", np.arange(1200))).float() / 127.5 - 1
        y = torch.from_numpy(data.labels["all"])
        torch.manual_seed(0)
        blocks = [
            layer
            for ins, outs in ((1, 16), (16, 32), (32, 64))
            for layer in (
                torch.nn.Conv2d(ins, outs, 3, padding=1),
                torch.nn.GroupNorm(4, outs),
                torch.nn.ReLU(),
                torch.nn.MaxPool2d(2),
            )
        ]
        pool = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(64, 2)
        model = torch.nn.Sequential(*blocks, *pool)
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(10):
            for batch in torch.randperm(800).split(32):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
                optimizer.step()
        with torch.no_grad():
            scores = model(x[800:]).diff(dim=1)[:, 0]
        return roc_auc_score(y[800:], scores)

    easy, hard = auroc(1.0), auroc(0.25)
    assert easy > 0.85
    assert 0.45 < hard < easy - 0.1
