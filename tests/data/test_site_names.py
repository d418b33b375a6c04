"""Names of numbered sites behave as the tuple of them would."""

from __future__ import annotations

import pytest

from fedsim.data.site_names import NumberedSites


@pytest.mark.parametrize("num", [1, 2, 99, 100, 101, 1000])
def test_they_are_what_a_tuple_of_them_is(num: int) -> None:
    names = NumberedSites(num)
    width = max(2, len(str(num - 1)))
    whole = tuple(f"site-{site:0{width}d}" for site in range(num))
    assert tuple(names) == whole
    assert (len(names), names[-1], names[num // 2]) == (num, whole[-1], whole[num // 2])
    assert names[1:5] == list(whole[1:5])
    assert all(name in names for name in whole)
    with pytest.raises(IndexError):
        names[num]


@pytest.mark.parametrize("name", ["site-100", "site-1", "site-001", "site-", "07", "pooled", 7])
def test_other_names_are_none_of_them(name: object) -> None:
    assert name not in NumberedSites(100)
    assert "site-07" in NumberedSites(100)
