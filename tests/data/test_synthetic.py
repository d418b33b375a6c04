"""Synthetic images: each by itself, lesions where the masks say, a signal that can be dialled."""

import numpy as np
import pytest
from pydantic import ValidationError

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


# Difficulty


@pytest.fixture
def one_thread():
    """Small layers are slower in several threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_signal_sets_the_difficulty():
    easy, hard = auroc_of_a_small_network(signal=1.0), auroc_of_a_small_network(signal=0.25)
    assert easy > 0.9
    assert 0.5 < hard < 0.8


def auroc_of_a_small_network(signal):
    import torch
    from sklearn.metrics import roc_auc_score
    from torch import nn

    data = Synthetic(anatomy="chest", num_examples=1200, signal=signal).open(STREAMS)
    x = torch.from_numpy(data.images("all", np.arange(1200))).float() / 127.5 - 1
    y = torch.from_numpy(data.labels["all"])
    layers = []
    with STREAMS.torch_default("test"):
        for ins, outs in ((1, 8), (8, 16), (16, 32)):
            convolution = nn.Conv2d(ins, outs, 3, padding=1)
            layers += [convolution, nn.GroupNorm(4, outs), nn.ReLU(), nn.MaxPool2d(2)]
        network = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    order = STREAMS.torch("test_order")
    for _ in range(8):
        for batch in torch.randperm(800, generator=order).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        return roc_auc_score(y[800:], network(x[800:]).diff(dim=1)[:, 0])


# Patients


def patients(anatomy, **settings):
    source = Synthetic(anatomy=anatomy, images_per_patient=4, num_examples=400, **settings)
    return source, source.open(STREAMS)


@both
def test_a_patient_has_a_name_a_sex_an_age_and_one_body(anatomy):
    source, data = patients(anatomy)
    columns = {name: values["all"] for name, values in data.columns.items()}
    assert set(columns) == {"patient", "sex", "age_band"} == set(source.facts().columns)
    assert len(set(columns["patient"])) == 100
    for name, known in source.facts().columns.items():
        assert set(columns[name]) == set(known)
        for patient in range(100):
            assert len(set(columns[name][4 * patient : 4 * patient + 4])) == 1
    images, _ = source.draw(STREAMS, np.arange(80), np.zeros(80, int))
    flat = images.reshape(20, 4, -1) - images.mean(axis=0).reshape(-1)
    flat /= np.linalg.norm(flat, axis=2, keepdims=True)
    same = np.mean([flat[p, 0] @ flat[p, 1] for p in range(20)])
    other = np.mean([flat[p, 0] @ flat[(p + 1) % 20, 1] for p in range(20)])
    assert same > other + 0.3
    assert np.abs(images[0] - images[1]).max() > 0.02


@both
def test_images_of_patients_can_be_drawn_alone_and_in_any_order(anatomy):
    source, data = patients(anatomy)
    images, masks = source.draw(STREAMS, np.arange(20), data.labels["all"][:20])
    order = np.array([13, 2, 7])
    again, masks_again = source.draw(STREAMS, order, data.labels["all"][order])
    np.testing.assert_array_equal(again, images[order])
    np.testing.assert_array_equal(masks_again, masks[order])


@pytest.mark.parametrize("agreement", [0.0, 0.8, 1.0])
def test_images_of_a_patient_agree_as_often_as_stated(agreement):
    source = Synthetic(
        anatomy="chest", images_per_patient=5, num_examples=5000, label_agreement=agreement
    )
    labels = source.open(STREAMS).labels["all"].reshape(1000, 5)
    pairs = float((labels[:, 0] == labels[:, 1]).mean())
    both_kept = agreement**2
    assert pairs == pytest.approx(both_kept + (1 - both_kept) / 2, abs=0.05)
    assert labels.mean() == pytest.approx(0.5, abs=0.05)


@both
def test_sex_and_age_are_equally_frequent_in_every_class(anatomy):
    data = Synthetic(
        anatomy=anatomy, images_per_patient=2, num_examples=20_000, label_agreement=1
    ).open(STREAMS)
    labels = data.labels["all"]
    for column, num_values in (("sex", 2), ("age_band", 3)):
        values = np.unique(data.columns[column]["all"], return_inverse=True)[1]
        for label in range(NUM_CLASSES[anatomy]):
            shares = np.bincount(values[labels == label]) / (labels == label).sum()
            np.testing.assert_allclose(shares, 1 / num_values, atol=0.05)


@both
def test_sex_and_age_show(anatomy):
    from fedsim.data import chest_films, fundus_photographs
    from fedsim.data.sitters import Sitters

    module = chest_films if anatomy == "chest" else fundus_photographs

    def draw_with(male, age):
        n = 12

        def rngs(first):
            return [np.random.default_rng(first + i) for i in range(n)]

        ones = np.ones((n, 1, 1), np.float32)
        sitters = Sitters(rngs(100), male * ones, age * ones, several=True)
        return module.draw(rngs(0), np.zeros(n, int), 32, 1.0, sitters)[0]

    plain = draw_with(0, 0)
    for changed in (draw_with(1, 0), draw_with(0, 1), draw_with(0, 2)):
        difference = np.abs(changed - plain).mean()
        assert 0.0005 < difference < 0.05


def test_one_image_each_has_no_patients():
    source = Synthetic(num_examples=20)
    assert source.facts().columns == {}
    assert source.open(STREAMS).columns == {}
