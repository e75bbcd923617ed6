"""What every benchmark shares: percentiles, and a table in which all of them print."""

from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def line(name: str, *, target: str = "", **figures: float | str) -> None:
    """Print one result: `name: key figure, key figure (target …)`."""
    words = ", ".join(
        f"{key.replace('_', ' ')} {value:,.3g}" if isinstance(value, float) else f"{key.replace('_', ' ')} {value}"
        for key, value in figures.items()
    )
    print(f"\n  {name}: {words}" + (f"  (target {target})" if target else ""), end="", flush=True)
