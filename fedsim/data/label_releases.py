"""What the ledger of a run has of labels: they are told once, before the first round."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fedsim.data.population import Population

if TYPE_CHECKING:
    from fedsim.privacy.ledger import Entry


def label_releases(population: Population, beside: Iterable[str] = ()) -> list[Entry]:
    """Return the release of each site that protects its labels, and what all of them expose.

    Training and validation images of a site are different ones, and so are their labels: a site's
    release is one of both, each label being told once for every division into bags.

    Args:
        population: of the run.
        beside: what else the run tells of true labels, without noise.
    """
    protected = {
        site: known.release for site, known in population.knowledge.items() if known.release
    }
    if not protected:
        return []
    from fedsim.privacy.events import from_data
    from fedsim.privacy.ledger import Entry

    exposed = dict.fromkeys(release["public"] for release in protected.values())
    return [
        *(Entry(0, None, what) for what in beside),
        *(Entry(0, None, f"{what} (label privacy hides labels alone)") for what in exposed),
        *(
            Entry(
                0,
                population.names[site],
                release["what"],
                "label",
                release["relation"],
                sum(len(population.held(site)[split]) for split in ("train", "validation")),
                release["digest"],
                from_data(release["event"]),
            )
            for site, release in protected.items()
        ),
    ]
