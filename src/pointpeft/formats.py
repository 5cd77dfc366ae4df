"""Numbers, lists and method names as people read them; "-" for no number."""

from collections.abc import Iterable, Sequence

__all__ = [
    "count",
    "counted",
    "display_name",
    "enumerate_names",
    "human_bytes",
    "mean_and_spread",
    "percent",
    "percent_range",
    "same_for_all",
    "seconds",
    "within_sentence",
]

_NONE = "-"


def percent(share: float | None) -> str:
    """A share, 0 to 1."""
    return _NONE if share is None else f"{100 * share:.1f} %"


def mean_and_spread(share: float | None, deviation: float | None) -> str:
    """A share, with its standard deviation over seeds where they differ."""
    if share is None or deviation is None or same_for_all(deviation):
        return percent(share)
    return f"{100 * share:.1f} ± {percent(deviation)}"


def same_for_all(deviation: float | None) -> bool:
    """Whether a standard deviation is none, but for rounding: all values are equal."""
    return deviation is not None and deviation < 1e-9


def percent_range(bounds: Sequence[float] | None) -> str:
    """From one share to another, such as a confidence interval."""
    return _NONE if bounds is None else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f} %"


def count(value: float | None) -> str:
    """A whole number."""
    return _NONE if value is None else f"{value:,}"


def seconds(value: float | None) -> str:
    """A duration."""
    return _NONE if value is None else f"{value:.1f}"


def enumerate_names(names: Iterable[object], most: int = 5) -> str:
    """The first of some names, and how many more there are."""
    listed = list(map(str, names))
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def human_bytes(value: float | None) -> str:
    """A size in memory or on disk."""
    if value is None:
        return _NONE
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number and what is counted: "1 epoch", "2 epochs"; ``several`` where an s will not do."""
    return f"{number} {one if number == 1 else several or f'{one}s'}"


_NAMES = {
    "adapter": "Adapters",
    "bitfit": "BitFit",
    "dapt": "DAPT",
    "dora": "DoRA",
    "full": "Full fine-tuning",
    "ia3": "IA3",
    "idpt": "IDPT",
    "knn": "Nearest neighbours",
    "lda": "LDA of all blocks",
    "linear": "Linear probing",
    "lora": "LoRA",
    "norm": "Norm tuning",
    "point-peft": "Point-PEFT",
    "pointgst": "PointGST",
    "ppt": "PPT",
    "stag": "STAG",
    "svm": "Linear SVM",
    "vera": "VeRA",
    "vpt-deep": "VPT-deep",
    "vpt-shallow": "VPT-shallow",
}


def display_name(method: str) -> str:
    """What a table or heading calls a method; ones unknown here go by their registered name."""
    return _NAMES.get(method, f"{method[:1].upper()}{method[1:]}")


def within_sentence(name: str) -> str:
    """A display name within a sentence, where only proper names keep their capital."""
    is_proper = not name[1:].islower()
    return name if is_proper else f"{name[:1].lower()}{name[1:]}"
