"""The files of one content: what each costs, how it scores, and which stands beside which."""

import math
from dataclasses import dataclass

import numpy as np

from datamodules.errors import InputError
from datamodules.video import Video
from vqa_lightning.encodes.bd_rate import BDRate, bd_rate
from vqa_lightning.encodes.scores import EncodeScores


@dataclass(frozen=True)
class Encode:
    """A file of a content.

    Attributes:
        video: what is known of it.
        name: as short as tells it from the others.
        rate: of its video stream, in bits per second; NaN where it cannot be read.
        size: of the file, in bytes.
        ladder: that it belongs to; empty without ladders.
    """

    video: Video
    name: str
    rate: float
    size: int
    ladder: str = ""


@dataclass(frozen=True)
class Content:
    """Encodes of one content with their scores.

    Attributes:
        name: of the content.
        encodes: (E,).
        found: their scores, in the same order.
    """

    name: str
    encodes: tuple[Encode, ...]
    found: EncodeScores

    @property
    def readable(self) -> list[int]:
        """Places of the encodes that have a score."""
        return [place for place, error in enumerate(self.found.errors) if not error]

    @property
    def ladders(self) -> dict[str, list[int]]:
        """Places of the readable encodes of each ladder; one ladder without a name where none was given."""
        found: dict[str, list[int]] = {encode.ladder: [] for encode in self.encodes}
        for place in self.readable:
            found[self.encodes[place].ladder].append(place)
        return found

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Places of the encodes that stand beside each other.

        Without ladders these are the first and each of the others; with them each encode of a later ladder
        stands beside that of the first ladder whose rate is nearest.
        """
        first, *others = self.ladders.values()
        if not others:
            return [(first[0], place) for place in first[1:]]
        later = [place for ladder in others for place in ladder]
        return [(min(first, key=lambda one: self._octaves(one, place)), place) for place in later if first]

    def _octaves(self, one: int, other: int) -> float:
        return abs(math.log2(self.encodes[one].rate / self.encodes[other].rate))

    def bd_rates(self) -> dict[str, BDRate | str]:
        """Return the BD-rate of each later ladder to the first, or the sentence why there is none."""
        first, *others = self.ladders.items()
        found: dict[str, BDRate | str] = {}
        for name, ladder in others:
            places = [*first[1], *ladder]
            rates = np.array([self.encodes[place].rate for place in places])
            scores, count = self.found.scores[places], len(first[1])
            try:
                found[name] = bd_rate(
                    (rates[:count], rates[count:]),
                    (scores[:count], scores[count:]),
                    self.found.covariance[np.ix_(places, places)],
                )
            except InputError as error:
                found[name] = str(error)
        return found
