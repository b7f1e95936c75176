"""What a frozen model made of clips, by what the clips show: a clip that is met again need not be read.

Features take a thousandth of a clip's memory. They are found only in the process that computed them: workers
that read clips know nothing of them and read each clip again.
"""

from collections import OrderedDict
from collections.abc import ItemsView, Sequence

from torch import Tensor

from datamodules.simulators import Simulator


class SeenClips:
    """Features of the clips seen last, up to a number of bytes.

    Args:
        megabytes: the most that is kept.

    Example:
        >>> import torch
        >>> seen = SeenClips(megabytes=1)
        >>> seen.keep("a clip", torch.zeros(4))
        >>> "a clip" in seen, "another" in seen
        (True, False)
    """

    def __init__(self, megabytes: float) -> None:
        self._left = megabytes * 2**20
        self._features: OrderedDict[str, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._features)

    def items(self) -> ItemsView[str, Tensor]:
        """Return keys and features, those not asked for the longest first."""
        return self._features.items()

    def __contains__(self, key: str) -> bool:
        return key in self._features

    def __getitem__(self, key: str) -> Tensor:
        """Return the features of a clip that is there."""
        self._features.move_to_end(key)
        return self._features[key]

    def keep(self, key: str, features: Tensor) -> None:
        """Keep a copy of a clip's features, in place of those not asked for the longest.

        What a worker has sent would hold a file open, and a part of a batch the whole of it.
        """
        if key not in self._features:
            self._features[key] = features.clone()
            self._left -= features.nbytes
        while self._left < 0:
            _, dropped = self._features.popitem(last=False)
            self._left += dropped.nbytes


def clip_key(
    video_id: str, draw: int, applied: Sequence[tuple[Simulator, int]] = (), *, whole: bool = False
) -> str:
    """Return the key of a clip whose pixels follow from its video, its draw and what was done to it.

    Args:
        video_id: of the source.
        draw: number of the clip.
        applied: simulators with their levels, in the order in which they act.
        whole: of whole frames, and not of the window that is trained on.

    Example:
        >>> clip_key("5f3a", 2)
        '5f3a 2'
    """
    done = (f"{simulator.identity}@{level}" for simulator, level in applied)
    return " ".join((video_id, f"{draw} whole" if whole else str(draw), *done))
