"""Work in which one file ends the process that prepares it."""

import os
import signal
from dataclasses import dataclass, fields

from pointpeft.data import InputTransform
from pointpeft.measure.corpus import Work

__all__ = ["FATAL", "FatalFile"]

FATAL = "box_02.off"
"""Name of the file."""


class FatalTransform(InputTransform):
    """Preparing the file ends the process."""

    def prepare_inputs(self, shapes):
        if any(shape.source.endswith(FATAL) for shape in shapes):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().prepare_inputs(shapes)


@dataclass(frozen=True)
class FatalFile:
    """Work whose reading of the file ends every process, on a CPU whatever is asked for."""

    work: Work

    def load(self, device):
        maker = self.work.load("cpu")
        given = {one.name: getattr(maker.transform, one.name) for one in fields(InputTransform)}
        maker.transform = FatalTransform(**given)
        return maker
