"""Families that show each frame as a picture of its own, its patches shuffled two by two into a token."""

from abc import abstractmethod
from collections.abc import Set

from torch import Tensor

from datamodules.errors import InputError
from vqa_lightning.families.base import Family
from vqa_lightning.families.embedded import EmbeddedSizes


def shuffled_tokens(sizes: EmbeddedSizes) -> int:
    """Return the number of visual tokens of a picture where two by two patches are shuffled into one.

    Raises:
        InputError: the number of patches along a side is odd.
    """
    grid = sizes.image_size // sizes.patch_size
    if grid % 2:
        raise InputError(
            "model.lmm.embedded.image_size must hold an even number of patches a side, which this family "
            f"joins in twos; got {sizes.image_size} with patches of {sizes.patch_size}."
        )
    return (grid // 2) ** 2


class ShuffledFamily(Family):
    """A family whose frames are pictures, each with the same number of shuffled patches."""

    video = "<video>"

    @property
    def visual_ids(self) -> Set[int]:
        """The placeholder of a picture's tokens."""
        return {self.model.config.image_token_id}

    @abstractmethod
    def see(self, pictures: Tensor) -> Tensor:
        """Return the projected features (N, V, D) of normalised pictures (N, 3, h, w)."""

    def features(self, frames: Tensor) -> tuple[Tensor, None]:
        """Return each frame's shuffled patches, in order of time."""
        seen = self.see(self.normalise(frames).flatten(0, 1))
        return seen.view(len(frames), -1, seen.shape[-1]), None
