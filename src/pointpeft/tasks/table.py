"""All tasks, by name."""

from pointpeft.errors import ConfigError, nearest_hint
from pointpeft.tasks.classification import Classification
from pointpeft.tasks.part_segmentation import PartSegmentation
from pointpeft.tasks.task import Task

__all__ = ["TASKS", "find_task"]

_ALL = (Classification(), PartSegmentation())
TASKS: dict[str, Task] = {task.name: task for task in _ALL}


def find_task(name: str) -> Task:
    """The task that the setting ``task`` names.

    Raises:
        ConfigError: there is no such one.
    """
    if name in TASKS:
        return TASKS[name]
    known = list(TASKS)
    raise ConfigError(
        f"unknown task {name!r}: {nearest_hint(name, known)}tasks: {', '.join(known)}"
    )
