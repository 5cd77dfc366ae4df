"""Tuning methods as people call them."""

__all__ = ["display_name", "within_sentence"]

_NAMES = {
    "full": "Full fine-tuning",
    "idpt": "IDPT",
    "linear": "Linear probing",
    "point-peft": "Point-PEFT",
    "stag": "STAG",
}


def display_name(method: str) -> str:
    """What a table or heading calls a method; ones unknown here go by their registered name."""
    return _NAMES.get(method, f"{method[:1].upper()}{method[1:]}")


def within_sentence(name: str) -> str:
    """A display name within a sentence, where only proper names keep their capital."""
    is_proper = not name[1:].islower()
    return name if is_proper else f"{name[:1].lower()}{name[1:]}"
