"""An encoder with what makes use of it: what is adapted, and what is pre-trained."""

from pointpeft.models.loadable import Loadable
from pointpeft.models.trunk import Trunk

__all__ = ["Network"]


class Network(Loadable):
    """An encoder, and layers behind it: a head, those that find parts, or those that pre-train it.

    Attributes:
        backbone: the encoder.
    """

    backbone: Trunk

    @property
    def core(self) -> Trunk:
        """The encoder."""
        return self.backbone
