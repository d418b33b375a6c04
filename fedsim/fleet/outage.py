"""When sites are not there: late joiners, sites that leave for good, drop-outs by chance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic import Field, model_validator

from fedsim.plugins import Part
from fedsim.seeds import Streams


class Outage(Part):
    """Rounds in which some sites do not take part, even if the cohort has them.

    A late joiner is out from round 1 on, a site that leaves has no `to_round`.

    Args:
        sites: names of the sites; all if not given.
        from_round: the first round.
        to_round: the last round; null for good.
        probability: that a site is out in such a round, independently in each.
    """

    sites: tuple[str, ...] | None = Field(default=None, min_length=1)
    from_round: int = Field(default=1, ge=1)
    to_round: int | None = Field(default=None, ge=1)
    probability: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _forwards(self) -> Outage:
        if self.to_round is not None and self.to_round < self.from_round:
            raise ValueError(
                f"from_round {self.from_round} is after to_round {self.to_round}: exchange them"
            )
        return self

    def covers(self, name: str, round: int) -> bool:
        """Return whether the site may be out in the round."""
        return (self.sites is None or name in self.sites) and (
            self.from_round <= round <= (self.to_round or round)
        )


def is_out(outages: Iterable[Outage], name: str, site: int, round: int, streams: Streams) -> bool:
    """Return whether a site is out in a round.

    Chance comes from the stream "outage" of the number of the outage, the round and the site.
    """
    return any(_happens(outages, name, site, round, streams))


def _happens(
    outages: Iterable[Outage], name: str, site: int, round: int, streams: Streams
) -> Iterator[bool]:
    for number, outage in enumerate(outages):
        if outage.covers(name, round):
            draw = streams.numpy("outage", outage=number, round=round, site=site)
            yield draw.random() < outage.probability
