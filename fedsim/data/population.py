"""The sites of a study: who holds which examples for training, validation and test.

The index sets are formed from labels alone; images are made when a site is first used and then
kept, shifted by the site's scanner and normalised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clients.targets import CLASSES, Target
from fedsim.data.aggregates import Aggregates, Hidden, Knowledge
from fedsim.data.normalisation import Normalisation
from fedsim.data.source import PATIENT, SPLITS, Numbers, Split, Texts
from fedsim.data.units import numbered

Indices = NDArray[np.int64]
Pixels = Callable[[Indices], NDArray[np.uint8]]
"""Indices, (n,), -> images, (n, channel, height, width), uint8."""

SERVER, SERVER_NAME = -1, "server"
"""What stands in place of a site's number and name where the server holds what no site does."""
KNOWS_ALL = Knowledge()
MOST_GROUPS = 12
"""Values up to which a column divides images into groups."""
SITES_COUNTED = 1000
"""Sites whose examples are counted where there may be too many to count."""


@dataclass(frozen=True)
class Examples:
    """Images and labels of one split of one site.

    Args:
        images: (example, channel, height, width), float32, normalised.
        labels: (example,), int64, classes of the task, `clients.batch.UNKNOWN` where the
            site does not know them; float32, what is learned of a real number, nan where the site
            does not know it.
        bags: what it knows in their stead; several divisions of the same examples if there are.
        confusion: P(label that is shown | label), (class, class), where labels were randomised.
    """

    images: NDArray[np.float32]
    labels: Indices | Numbers
    bags: tuple[Aggregates, ...] = ()
    confusion: NDArray[np.float64] | None = None


class Kept(Protocol):
    """Where examples are kept, by holder and split, once they are made."""

    def __contains__(self, key: object, /) -> bool: ...

    def __getitem__(self, key: tuple[int, Split], /) -> Examples: ...

    def __setitem__(self, key: tuple[int, Split], examples: Examples, /) -> None: ...


@dataclass(frozen=True)
class ExternalSet:
    """Images that no site trains on: a site held out as a whole, or a test set from elsewhere.

    Args:
        name: of the site or set.
        labels: (n,), classes of the task.
        patients: whose image each is, (n,), or None if that is not known.
        raw: function of indices -> uint8 images as the source has them.
        pixels: function of indices -> uint8 images as the site's scanner shows them.
        normalisation: what the network sees.
        targets: (n,), real numbers to predict in place of classes, if they are.
    """

    name: str
    labels: Indices
    patients: Texts | None
    raw: Pixels
    pixels: Pixels
    normalisation: Normalisation
    targets: Numbers | None = None

    @property
    def truth(self) -> Indices | Numbers:
        """What is to be predicted, (n,)."""
        return self.labels if self.targets is None else self.targets

    def examples(self) -> Examples:
        """Return all of it."""
        pixels = self.pixels(np.arange(len(self.labels)))
        return Examples(self.normalisation.apply(pixels), self.truth)


@dataclass(frozen=True)
class Population:
    """All sites of a study.

    Args:
        names: one per site.
        class_names: of the task.
        indices: for each site and split, positions in the pooled labels, ascending; maybe drawn
            at every look.
        labels: pooled over the source's splits, (n,), classes of the task as the sites know them.
        pixels: function of positions -> uint8 images as the source has them.
        shown: function (holder, positions) -> uint8 images as the holder's scanner shows them.
        normalisation: what the network sees of them.
        checksums: of the data, as the source states them.
        columns: what else is known: column -> pooled values, (n,), text.
        external: what no site trains on.
        looks: appearance parameters by site (external ones too), empty without a shift and where
            sites are drawn.
        num_mislabelled: training examples with a wrong label by site, empty without label noise.
        knowledge: of sites that do not plainly know all labels of theirs.
        hidden: what the simulator alone knows of those sites' labels, by their name; not in
            `labels` or `targets`.
        server: where sites draw their training examples when they are looked at, what they draw
            from and all that is held out; None where every site has its own.
        targets: pooled real numbers that are learned in place of the classes, (n,), if they are;
            nan where a site does not know them.
        predicted: what the network says of an image.
        kept: examples that are made; by default in this process alone.
    """

    names: Sequence[str]
    class_names: tuple[str, ...]
    indices: Sequence[Mapping[Split, Indices]]
    labels: Indices
    pixels: Pixels
    shown: Callable[[int, Indices], NDArray[np.uint8]]
    normalisation: Normalisation
    checksums: Mapping[str, str]
    columns: Mapping[str, Texts] = field(default_factory=dict)
    external: tuple[ExternalSet, ...] = ()
    looks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    num_mislabelled: Mapping[str, int] = field(default_factory=dict)
    knowledge: Mapping[int, Knowledge] = field(default_factory=dict)
    hidden: Mapping[str, Hidden] = field(default_factory=dict)
    server: Mapping[Split, Indices] | None = None
    targets: Numbers | None = None
    predicted: Target = CLASSES
    kept: Kept = field(default_factory=dict[tuple[int, Split], Examples], repr=False)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def holders(self) -> Sequence[int]:
        """Who has validation and test images: every site its own, or `SERVER` all of them."""
        return range(len(self)) if self.server is None else (SERVER,)

    def name(self, holder: int) -> str:
        """Return the name of a site, or of the server."""
        return SERVER_NAME if holder == SERVER else self.names[holder]

    def held(self, holder: int) -> Mapping[Split, Indices]:
        """Return the positions that a site holds, or the server."""
        if holder == SERVER and self.server is not None:
            return self.server
        return self.indices[holder]

    @property
    def tried(self) -> Sequence[int]:
        """Whose images are tried before a run: all, or the server and the first drawn site."""
        return range(len(self)) if self.server is None else (SERVER, 0)

    def keeps(self, holder: int) -> bool:
        """Return whether examples are kept once they are made: of all but drawn sites."""
        return holder in self.holders

    def sizes(self) -> list[int]:
        """Return the training examples of each site; of drawn sites, of the first 1,000."""
        counted = range(len(self))[: None if self.server is None else SITES_COUNTED]
        return [len(self.indices[site]["train"]) for site in counted]

    def num_images(self) -> int:
        """Return how many images the `holders` have together."""
        return sum(len(held) for holder in self.holders for held in self.held(holder).values())

    def make_images(self, holder: int, positions: Indices) -> NDArray[np.float32]:
        """Return images as the network sees them."""
        return self.normalisation.apply(self.shown(holder, positions))

    @property
    def truths(self) -> Indices | Numbers:
        """What is to be predicted, pooled, (n,): classes or real numbers."""
        return self.labels if self.targets is None else self.targets

    def truth(self, holder: int, split: Split) -> Indices | Numbers:
        """Return what is to be predicted of the examples of a site or the server, (example,)."""
        return self.truths[self.held(holder)[split]]

    def learned(self, positions: Indices) -> Indices | Numbers:
        """Return what a network learns of examples at some positions, (n,)."""
        return self.predicted.learned(self.truths[positions])

    def examples(self, holder: int, split: Split) -> Examples:
        """Return the examples of a site or the server; made once, then kept if it `keeps` them."""
        if (holder, split) not in self.kept:
            chosen = self.held(holder)[split]
            examples = Examples(self.make_images(holder, chosen), self.learned(chosen))
            if not self.keeps(holder):
                return examples
            self.kept[holder, split] = examples
        if holder not in self.knowledge:
            return self.kept[holder, split]
        return replace(
            self.kept[holder, split],
            bags=tuple(
                replace(bags, responses=self.predicted.learned(bags.responses))
                for bags in self.bags(holder, split)
            ),
            confusion=self.knows(holder).confusion,
        )

    def bags(self, holder: int, split: Split) -> tuple[Aggregates, ...]:
        """Return the bags that a site's examples lie in; none where labels stand for themselves."""
        return self.knows(holder).aggregates.get(split, ())

    def known_counts(self, split: Split) -> NDArray[np.float32] | None:
        """Return examples per class as all sites together tell, (class,), noise and all.

        None where sites draw their examples when they are looked at, or learn real numbers.
        """
        if self.server is not None or self.targets is not None:
            return None
        counts = np.zeros(len(self.class_names))
        for site in range(len(self)):
            bags = self.bags(site, split)
            counts += bags[0].sizes @ bags[0].responses if bags else self._labelled(site, split)
        return counts.astype(np.float32)

    def bags_by_name(self, split: Split) -> dict[str, Aggregates]:
        """Return the bags of the sites that have some: site name -> those."""
        found = {self.names[site]: self.bags(site, split) for site in self.knowledge}
        return {name: bags[0] for name, bags in found.items() if bags}

    def num_bags(self, holder: int, split: Split) -> int | None:
        """Return how many bags a site's examples lie in, or None."""
        bags = self.bags(holder, split)
        return len(bags[0].responses) if bags else None

    def knows(self, holder: int) -> Knowledge:
        """Return what a site knows of its labels."""
        return self.knowledge.get(holder, KNOWS_ALL)

    def judges(self, holder: int, split: Split) -> bool:
        """Return whether the labels of a holder's images are known, to it or to the simulator."""
        return split == "test" or self.knows(holder).kind == "labels"

    def is_labelled(self, holder: int, split: Split) -> bool:
        """Return whether a holder's images have labels by which they can be sorted."""
        if holder not in self.knowledge:
            return True
        return split != "test" and self.knows(holder).kind == "labels"

    def without_hidden(self) -> Population:
        """Return the population as its sites see it."""
        return replace(self, hidden={})

    def hidden_tests(self) -> dict[str, Indices | Numbers]:
        """Return the labels of test images that their sites do not know: site name -> (n,)."""
        return {name: hidden.test for name, hidden in self.hidden.items()}

    def patients(self, holder: int, split: Split) -> Texts | None:
        """Return whose image each of the examples is, or None if that is not known."""
        known = self.columns.get(PATIENT)
        return None if known is None else known[self.held(holder)[split]]

    def patient_numbers(self, holder: int, split: Split) -> Indices:
        """Return a number for the patient of each of a holder's examples, (example,), from 0.

        An example whose patient is not known is that of another one.
        """
        known = self.patients(holder, split)
        return np.arange(len(self.held(holder)[split])) if known is None else numbered(known)

    def shared_patients(self) -> list[dict[str, Any]]:
        """Return the sites that train on images of the same patients, and how many those are.

        Nothing where patients are not known, or where sites draw their examples.
        """
        at: dict[str, list[str]] = {}
        for site in range(len(self)) if self.server is None and PATIENT in self.columns else ():
            known = self.patients(site, "train")
            for patient in np.unique([] if known is None else known[known != ""]).tolist():
                at.setdefault(patient, []).append(self.names[site])
        counts = Counter(tuple(sites) for sites in at.values() if len(sites) > 1)
        return [{"sites": list(sites), "num_patients": num} for sites, num in counts.items()]

    def units(self, split: Split) -> tuple[str, dict[str, Indices]]:
        """Return what is drawn anew when results are resampled: "image" or "patient".

        With it comes for every holder a number for each of its examples, (example,): the image's
        position, or where patients are known, one that all images of a patient share.
        """
        positions, known = np.arange(len(self.labels)), self.columns.get(PATIENT)
        whose = positions
        if known is not None:
            _, first, patient = np.unique(known, return_index=True, return_inverse=True)
            whose = np.where(known == "", positions, first[patient])
        unit = "image" if known is None else "patient"
        return unit, {self.name(h): whose[self.held(h)[split]] for h in self.holders}

    def attributes(self, split: Split) -> dict[str, dict[str, list[str]]]:
        """Return the columns that divide images into groups: column -> holder -> value of each.

        Those are columns with a few values; whose image it is, is none.
        """
        return {
            column: {self.name(h): values[self.held(h)[split]].tolist() for h in self.holders}
            for column, values in self.columns.items()
            if column != PATIENT and 1 < len(np.unique(values)) <= MOST_GROUPS
        }

    def class_counts(self, holder: int, split: Split) -> Indices:
        """Return examples per class, (class,).

        Of bags, as near as their responses tell; where nothing tells, as the simulator knows.
        """
        if (bags := self.bags(holder, split)) and self.targets is None:
            return bags[0].class_counts
        hidden = self.hidden.get(self.name(holder))
        if hidden is not None and split in hidden.counts:
            return hidden.counts[split]
        return self._labelled(holder, split)

    def _labelled(self, holder: int, split: Split) -> Indices:
        """Return examples per class, (class,), of those with a label."""
        labels = self.labels[self.held(holder)[split]]
        return np.bincount(labels[labels >= 0], minlength=len(self.class_names))

    def table(self) -> list[dict[str, Any]]:
        """Return for each of the `holders` its name and its examples per split and class.

        Where sites draw their training examples, those of the server are what they draw from.
        """
        return [
            {
                "name": self.name(holder),
                **{split: self.class_counts(holder, split).tolist() for split in SPLITS},
            }
            for holder in self.holders
        ]

    def knowledge_table(self) -> dict[str, dict[str, Any]]:
        """Return site name -> what it knows of its labels, as plain data, if not plainly all.

        With it, where numbers were truncated, what the simulator alone knows of that.
        """
        found = {self.names[site]: known.describe() for site, known in self.knowledge.items()}
        for name in found:
            if name in self.hidden and (moved := self.hidden[name].truncated):
                found[name]["truncated"] = {split: dict(part) for split, part in moved.items()}
        return found

    def external_table(self) -> list[dict[str, Any]]:
        """Return for each external set its name and its examples per class, as plain data."""
        num = len(self.class_names)
        return [
            {"name": part.name, "test": np.bincount(part.labels, minlength=num).tolist()}
            for part in self.external
        ]
