"""Drawing tools against plain second implementations, one image and one pixel at a time."""

import math

import numpy as np
import pytest

from fedsim.data import drawing


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
            assert drawn[i, row, column] == pytest.approx(expected, abs=1e-6)


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
