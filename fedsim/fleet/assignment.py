"""Which site has which device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedsim.data.apportioning import apportion
from fedsim.fleet.device import DeviceGroup
from fedsim.seeds import Streams


def assign(
    groups: Sequence[DeviceGroup], names: Sequence[str], streams: Streams
) -> NDArray[np.int64]:
    """Return the number of each site's group, (site,).

    Sites that a group names come first. Of the others each group gets its share, rounded to whole
    sites by largest remainders; which ones is drawn from the stream "devices".

    Args:
        groups: at least one; their shares sum to 1 if any site is named by none.
        names: of the sites that train; other names of the groups are passed over.
        streams: of the scenario.
    """
    group_of = np.full(len(names), -1, np.int64)
    asked = {name: number for number, group in enumerate(groups) for name in group.sites or ()}
    if asked:
        for site, name in enumerate(names):
            group_of[site] = asked.get(name, -1)
    rest = np.flatnonzero(group_of < 0)
    sharing = [number for number, group in enumerate(groups) if group.share is not None]
    if len(rest):
        shares = np.array([[groups[number].share] for number in sharing], np.float64)
        counts = apportion(shares, np.array([len(rest)]))[:, 0]
        group_of[streams.numpy("devices").permutation(rest)] = np.repeat(sharing, counts)
    return group_of
