"""How benchmarks tell of their figures: a line a figure for people, and one JSON line a figure for tools."""

import json


def show(name: str, ours: float, theirs: float, unit: str, *, versus: str) -> None:
    """Print a figure, that of what it is held against, and their ratio (ours / theirs)."""
    ratio = ours / theirs
    print(f"{name:<44} {ours:>12,.1f} {unit:<14} {versus}: {theirs:,.1f}  ratio {ratio:.2f}")
    print(
        json.dumps({"name": name, "ours": round(ours, 3), "theirs": round(theirs, 3), "ratio": round(ratio, 3), "unit": unit})
    )
