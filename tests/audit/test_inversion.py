"""A linear layer gives an image away; noise on the gradient does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fedsim.audit import inversion
from fedsim.audit.subject import Subject
from fedsim.records import RunRecord


@pytest.mark.slow
def test_without_privacy_an_image_is_seen_and_with_it_is_not(
    private: RunRecord, subject: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inversion, "NUM_ITERATIONS", 200)
    outcome = inversion.run(subject(private.folder), lambda *_: None)
    psnr = {one.figure: one.value for one in outcome.findings if one.figure.startswith("PSNR")}
    prior, plain, noisy = psnr.values()
    assert list(psnr)[2] == "PSNR, with noise 3"
    assert plain > prior + 3
    assert noisy < prior
    assert outcome.png is not None
    assert outcome.png.startswith(b"\x89PNG")
    assert inversion.run(subject(private.folder), lambda *_: None) == outcome
