"""How well predicted numbers agree with true ones; the catalogue is `clients.metrics`.

The values are scikit-learn's and scipy's. A value that the examples do not determine is None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from clients.metrics import Predictions


def mse(p: Predictions) -> float | None:
    """Mean squared error, in the unit of the number, squared."""
    from sklearn.metrics import mean_squared_error

    return float(mean_squared_error(p.labels, p.numbers))


def rmse(p: Predictions) -> float | None:
    """Square root of the mean squared error, in the unit of the number."""
    from sklearn.metrics import root_mean_squared_error

    return float(root_mean_squared_error(p.labels, p.numbers))


def mae(p: Predictions) -> float | None:
    """Mean absolute error, in the unit of the number."""
    from sklearn.metrics import mean_absolute_error

    return float(mean_absolute_error(p.labels, p.numbers))


def r2(p: Predictions) -> float | None:
    """Coefficient of determination: 1 - squared error / that of the examples' own mean.

    1 for perfect predictions, 0 for the mean of the true numbers, below 0 for worse. Undetermined
    where all true numbers are equal.
    """
    from sklearn.metrics import r2_score

    return float(r2_score(p.labels, p.numbers)) if np.ptp(p.labels) else None


def spearman(p: Predictions) -> float | None:
    """Spearman's rank correlation, ties at their mean rank.

    Undetermined where all true numbers, or all predicted ones, are equal.
    """
    from scipy.stats import spearmanr

    if not np.ptp(p.labels) or (p.numbers == p.numbers[0]).all():
        return None
    return float(spearmanr(p.labels, p.numbers).statistic)
