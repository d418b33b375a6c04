"""Gradient inversion: what an honest-but-curious server sees of one image, drawn.

The worst case for a site: it holds one image, takes one step on it and sends the update, so that
the server knows the gradient of that image alone, at the model that it sent itself, and knows the
label. The server looks for an image with such a gradient: one whose direction agrees and which is
smooth. With privacy the gradient is clipped and noised as the ledger says before it leaves.

What it shows is one attack on one image: a demonstration, no bound. A failure proves nothing, and
batches and several steps only make it harder. The mean of the site's other images, which needs no
gradient at all, is what any reconstruction has to beat.

Source: Geiping, Bauermeister, Droege and Moeller, NeurIPS 2020 (arXiv:2003.14053): cosine distance,
total variation, signs of gradients in Adam, steps that shrink at 3/8, 5/8 and 7/8 of the way.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clients.batch import Batch
from clients.unit_gradients import Formed, clip
from fedsim.audit.claims import EXAMPLE
from fedsim.audit.finding import Finding, Outcome, does_not_apply
from fedsim.audit.subject import Subject
from fedsim.flower.workplace import Workplace
from fedsim.privacy import ExampleLevel
from fedsim.report.canvas import DOTS_PER_INCH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE = "audit_inversion.png"
NUM_ITERATIONS = 800
LEARNING_RATE = 0.1
TOTAL_VARIATION = 1e-2
LARGEST_IMAGE = 64 * 64
"""Pixels up to which this takes seconds."""
SECONDS_PER_ITERATION = 0.01
Gradient = list[Tensor]
Image = NDArray[np.float64]


@dataclass(frozen=True)
class Reconstruction:
    """An image and how near it comes to the original.

    Args:
        title: how it was made.
        image: (channel, height, width), from 0 to 1.
        psnr: peak signal-to-noise ratio in dB, higher is nearer.
        ssim: structural similarity, 1 for the same.
    """

    title: str
    image: Image
    psnr: float
    ssim: float


def run(subject: Subject, tell: Callable[[int, int], None]) -> Outcome:
    """Reconstruct an image from its gradient, without and with the run's noise."""
    if why := _obstacle(subject):
        return does_not_apply(why)
    workplace, population = subject.workplace, subject.population
    workplace.network.load(workplace.network.initial)
    workplace.network.module.eval()
    site, position = _chosen(subject)
    own = population.held(site)["train"]
    shown = torch.from_numpy(population.make_images(site, np.array([position])))
    learned = torch.from_numpy(population.learned(np.array([position])))
    example = Batch(shown.to(workplace.device), learned.to(workplace.device))
    gradient = [part.detach() for part in _gradient(workplace, example)]
    seen = {"without privacy": gradient}
    if noise := _noise(subject, population.names[site]):
        seen[f"with noise {noise:g}"] = _private(subject, gradient, noise)
    original = _pixels(subject, shown[0])
    others = own[own != position]
    mean = population.make_images(site, others).mean(0) if len(others) else shown[0].numpy() * 0
    prior = _pixels(subject, torch.from_numpy(mean))
    found = [_judged("mean of the other images", prior, original)]
    total = len(seen) * NUM_ITERATIONS
    for number, (title, target) in enumerate(seen.items()):
        start = number * NUM_ITERATIONS

        def done(iteration: int, start: int = start) -> None:
            tell(start + iteration, total)

        image = _reconstructed(subject, workplace, example, target, done)
        found.append(_judged(title, _pixels(subject, image), original))
    name = population.names[site]
    note = (
        f"A training image of {name} from the gradient of its first step, if it were alone in the "
        "batch. A demonstration of one attack on one image, no bound: a failure proves nothing. "
        "PSNR in dB; SSIM is 1 for the same image. What beats the mean of the site's other images "
        "was learned from the gradient."
    )
    return Outcome(
        [finding for one in found for finding in _findings(one, name)],
        [note],
        {"seed": subject.options.seed},
        PICTURE,
        _encoded(_drawn(original, found)),
    )


def seconds(subject: Subject) -> float:
    """Return about how long `run` takes."""
    if _obstacle(subject):
        return 0.0
    targets = 1 if subject.scenario.privacy is None else 2
    return 5 + targets * NUM_ITERATIONS * SECONDS_PER_ITERATION


def _obstacle(subject: Subject) -> str:
    """Return why there is nothing to draw, empty if there is."""
    images = subject.record.population["images"]
    if subject.population.server is not None or subject.population.knowledge:
        return "sites draw their images anew, or do not know all labels of theirs"
    if images["image_size"] ** 2 > LARGEST_IMAGE:
        return f"images of {images['image_size']} pixels a side would take too long"
    if subject.scenario.client.objective.couples_examples:
        return "the objective is one of whole batches"
    return ""


def _chosen(subject: Subject) -> tuple[int, int]:
    """Return a site and the position of one of its training images."""
    draws = subject.streams.numpy("inversion_image")
    site = int(draws.integers(len(subject.population)))
    return site, int(draws.choice(subject.population.held(site)["train"]))


def _noise(subject: Subject, name: str) -> float:
    """Return the noise multiplier that the ledger has of a site, 0 without one."""
    claims = [claim for claim in subject.claims if claim.unit == EXAMPLE]
    return next((c.noise_multiplier for c in claims if name in c.sites), 0.0)


def _gradient(workplace: Workplace, example: Batch, graph: bool = False) -> Gradient:
    """Return the gradient of the local objective in every parameter that is trained."""
    module = workplace.network.module
    parameters = [p for p in module.parameters() if p.requires_grad]
    context = workplace.context(example, 1)
    loss = workplace.scenario.client.objective.loss(module, example, context)
    return list(torch.autograd.grad(loss, parameters, create_graph=graph))


def _private(subject: Subject, gradient: Gradient, noise: float) -> Gradient:
    """Return a gradient as it leaves a site: clipped, with noise on it."""
    privacy = subject.scenario.privacy
    assert privacy is not None
    assert isinstance(privacy.mechanism, ExampleLevel)
    bound = privacy.mechanism.clip_norm
    layers = len(gradient) if privacy.mechanism.clipping == "per_layer" else None
    clipped = clip({part: Formed(part[None]) for part in gradient}, bound, layers).sums
    draws = subject.streams.torch("inversion_noise")
    return [
        clipped[part] + noise * bound * torch.randn(part.shape, generator=draws).to(part)
        for part in gradient
    ]


def _reconstructed(
    subject: Subject,
    workplace: Workplace,
    example: Batch,
    target: Gradient,
    tell: Callable[[int], None],
) -> Tensor:
    """Return a smooth image whose gradient agrees with the target."""
    low, high = _bounds(subject, example.images)
    draws = subject.streams.torch("inversion_start")
    image = torch.randn(example.images.shape, generator=draws).to(example.images)
    image.requires_grad_()
    optimizer = torch.optim.Adam([image], LEARNING_RATE)
    milestones = [NUM_ITERATIONS * part // 8 for part in (3, 5, 7)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones)
    for iteration in range(NUM_ITERATIONS):
        found = _gradient(workplace, Batch(image, example.labels), graph=True)
        value = _distance(found, target) + TOTAL_VARIATION * _variation(image)
        (slope,) = torch.autograd.grad(value, [image])
        image.grad = slope.sign()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            image.clamp_(low, high)
        tell(iteration + 1)
    return image.detach()[0].cpu()


def _distance(found: Gradient, target: Gradient) -> Tensor:
    """Return 1 minus the cosine of the angle between two gradients."""
    product = torch.stack([(a * b).sum() for a, b in zip(found, target, strict=True)]).sum()
    lengths = [torch.stack([part.square().sum() for part in one]).sum() for one in (found, target)]
    return 1 - product / (lengths[0] * lengths[1]).sqrt().clamp(min=1e-12)


def _variation(image: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbouring pixels."""
    return image.diff(dim=-1).abs().mean() + image.diff(dim=-2).abs().mean()


def _bounds(subject: Subject, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return what black and white become in a network's input, (1, channel, 1, 1) each."""
    ends = np.stack([np.full(images.shape[1:], value, np.uint8) for value in (0, 255)])
    low, high = torch.from_numpy(subject.population.normalisation.apply(ends)).to(images)
    return low[None], high[None]


def _pixels(subject: Subject, image: Tensor) -> Image:
    """Return what the network is shown as pixels from 0 to 1."""
    low, high = _bounds(subject, image[None])
    found: Image = ((image - low[0]) / (high[0] - low[0])).clamp(0, 1).double().numpy()
    return found


def _judged(title: str, image: Image, original: Image) -> Reconstruction:
    """Compare an image with the original."""
    from monai.metrics.regression import SSIMMetric

    error = float(((image - original) ** 2).mean())
    metric = SSIMMetric(spatial_dims=2, data_range=1.0, win_size=7)
    pair = (torch.from_numpy(one[None]).float() for one in (image, original))
    psnr = math.inf if error == 0 else -10 * math.log10(error)
    return Reconstruction(title, image, psnr, float(torch.as_tensor(metric(*pair)).item()))


def _findings(one: Reconstruction, name: str) -> list[Finding]:
    return [
        Finding(f"PSNR, {one.title}", name, one.psnr),
        Finding(f"SSIM, {one.title}", name, one.ssim),
    ]


def _drawn(original: Image, found: list[Reconstruction]) -> Figure:
    """Return the original and the reconstructions side by side."""
    from matplotlib.figure import Figure

    titles = ["original"] + [
        f"{one.title}\nPSNR {one.psnr:.1f} dB, SSIM {one.ssim:.2f}" for one in found
    ]
    images = [original, *(one.image for one in found)]
    figure = Figure(figsize=(2.6 * len(images), 3.2), layout="constrained")
    for axes, title, image in zip(figure.subplots(1, len(images)), titles, images, strict=True):
        axes.imshow(
            image[0] if len(image) == 1 else image.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=1
        )
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    return figure


def _encoded(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return file.getvalue()
