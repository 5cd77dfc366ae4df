"""Numbers as a page shows them."""

from collections.abc import Sequence

__all__ = ["DASH", "bounds", "byte_size", "count", "mean_and_spread", "percent", "seconds"]

DASH = "\u2013"
"""What stands where there is no number."""


def percent(share: float | None) -> str:
    """A share, 0 to 1."""
    return DASH if share is None else f"{100 * share:.1f} %"


def mean_and_spread(share: float | None, deviation: float | None) -> str:
    """A share, with its standard deviation over seeds where there are several."""
    if share is None or deviation is None:
        return percent(share)
    return f"{100 * share:.1f} ± {percent(deviation)}"


def bounds(interval: Sequence[float] | None) -> str:
    """A confidence interval."""
    return DASH if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"


def count(value: float | None) -> str:
    """A whole number."""
    return DASH if value is None else f"{value:,}"


def seconds(value: float | None) -> str:
    """A duration."""
    return DASH if value is None else f"{value:.1f}"


def byte_size(value: float | None) -> str:
    """A size in memory or on disk."""
    if value is None:
        return DASH
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
