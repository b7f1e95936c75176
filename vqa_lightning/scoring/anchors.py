"""Clips that others are compared with, and scale values among them (METHOD section 5).

The language model reads anchors once: their keys and values wait for whatever is shown second. Asked the
other way round, the clip that is scored is read once and every anchor follows it. A score costs one pass of
its clip through the tower and one short pass of the language model for each anchor and order.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from datamodules.errors import InputError, UnreadableVideo
from datamodules.labels import Consensus
from datamodules.video import Sampling, probe, read_clip
from vqa_lightning.families.tokens import Tokens, stack
from vqa_lightning.lmm import LMM
from vqa_lightning.lmm.prefix import Prefix
from vqa_lightning.scaling import map_scores

ROW_TOKENS = 2**16
"""Tokens of prefixes and what follows that the language model holds at a time: some 8 GB in a model of 7B."""

Preference = Callable[[Tensor], Tensor]
"""From logits (B, 5) of the level words to how far the second clip is preferred (B,), from 0 to 1."""


class Anchors(nn.Module):
    """The anchors' frames, how they compare with each other, and prefixes of the present weights.

    Args:
        count: number of anchors.

    Attributes:
        clips: uint8 (T, 3, H, W) each, on the host; none before `choose`.
        matrix: (n, n), entry i, j how far anchor i is preferred over j.
    """

    matrix: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.clips: list[Tensor] = []
        self.register_buffer("matrix", torch.full((count, count), 0.5))
        self._read: list[tuple[list[int], Tokens, Prefix]] | None = None

    def choose(self, clips: Sequence[Tensor]) -> None:
        """Take the clips uint8 (T, 3, H, W) that others are measured against from now on."""
        self.clips = [clip.cpu() for clip in clips]
        self.forget()

    def forget(self) -> None:
        """Drop what was computed by weights that are about to change."""
        self._read = None

    def _encode(self, lmm: LMM) -> Tokens:
        """Encode one clip after the other: as floats a few whole frames would fill the memory."""
        clips = (clip[None].to(self.matrix.device).float() / 255 for clip in self.clips)
        return stack([lmm.encode(clip) for clip in clips])

    @torch.no_grad()
    def compare(self, lmm: LMM, preference: Preference) -> None:
        """Compare the anchors with each other under the present weights, in both orders."""
        self.forget()
        tokens = self._encode(lmm)
        first, second = torch.triu_indices(self.count, self.count, offset=1).tolist()
        for i, j in zip(first, second, strict=True):
            logits, *_ = lmm.compare(tokens.take([i, j]), tokens.take([j, i]))
            forward, backward = preference(logits)
            self.matrix[j, i] = (forward + 1 - backward) / 2
            self.matrix[i, j] = 1 - self.matrix[j, i]

    def read(self, lmm: LMM) -> list[tuple[list[int], Tokens, Prefix]]:
        """Return the anchors in groups of one length: places, tokens, and prompts that begin with them."""
        if self._read is None:
            tokens = self._encode(lmm)
            lengths = tokens.lengths
            alike = [
                [place for place, one in enumerate(lengths) if one == length]
                for length in sorted(set(lengths))
            ]
            groups = [(places, tokens.take(places)) for places in alike]
            self._read = [(places, anchors, lmm.begin(anchors)[0]) for places, anchors in groups]
        return self._read

    @torch.no_grad()
    def scale_values(
        self, lmm: LMM, clips: Tokens, preference: Preference, *, both_orders: bool = True
    ) -> Tensor:
        """Return scale values of clips among the anchors.

        Args:
            lmm: in evaluation mode, with the weights under which the anchors were compared.
            clips: B clips of one length, from `LMM.encode`.
            preference: as in `compare`.
            both_orders: ask with the clip first too, and not only with the anchor first.

        Returns:
            (B, O): of each order by itself, that with the anchor first coming first.
        """
        return self.place(self.wins(lmm, clips, preference, both_orders=both_orders))

    def place(self, wins: Tensor) -> Tensor:
        """Return scale values (...) of clips from how far they are preferred over each anchor (..., n)."""
        matrix = wins.new_zeros(*wins.shape[:-1], self.count + 1, self.count + 1)
        matrix[..., :-1, :-1] = self.matrix
        matrix[..., -1, :-1] = wins
        matrix[..., :-1, -1] = 1 - wins
        return map_scores(matrix)[0][..., -1].to(wins)

    @torch.no_grad()
    def wins(self, lmm: LMM, clips: Tokens, preference: Preference, *, both_orders: bool = True) -> Tensor:
        """Return how far each clip is preferred over each anchor in each order, (B, O, n).

        Args:
            lmm: as in `scale_values`.
            clips: as there.
            preference: as there.
            both_orders: as there.
        """
        longest = max(prefix.length for _, _, prefix in self.read(lmm))
        few = max(1, ROW_TOKENS // (self.count * (longest + clips.lengths[0])))
        parts = [list(range(start, min(start + few, len(clips)))) for start in range(0, len(clips), few)]
        return torch.cat([self._wins(lmm, clips.take(rows), preference, both_orders) for rows in parts])

    def _wins(self, lmm: LMM, clips: Tokens, preference: Preference, both_orders: bool) -> Tensor:
        batch = len(clips)
        wins = self.matrix.new_zeros(batch, 2 if both_orders else 1, self.count)
        begun = lmm.begin(clips)[0] if both_orders else None
        for places, anchors, prefix in self.read(lmm):
            anchor = list(range(len(places))) * batch
            clip = [row for row in range(batch) for _ in places]
            shown_second = preference(lmm.follow(prefix.take(anchor), clips.take(clip)))
            wins[:, 0, places] = shown_second.view(batch, -1)
            if begun is not None:
                shown_first = 1 - preference(lmm.follow(begun.take(clip), anchors.take(anchor)))
                wins[:, 1, places] = shown_first.view(batch, -1)
        return wins


def calmest(consensus: Consensus, count: int) -> list[str]:
    """Return of each quality bin the video on which the annotators agree best (Compare2Score's rule).

    Args:
        consensus: of the videos to choose from.
        count: number of bins, each with as many videos.

    Returns:
        Their ids, the worst first.

    Raises:
        InputError: there are fewer videos than bins.
    """
    if len(consensus.video_ids) < count:
        raise InputError(
            f"model.scoring.anchors must be at most the number of annotated videos in the train split, "
            f"{len(consensus.video_ids)}; got {count}: lower it, name files there, or add videos."
        )
    bins = np.array_split(np.argsort(consensus.score, kind="stable"), count)
    return [consensus.video_ids[members[np.argmin(consensus.variance[members])]] for members in bins]


def named_clips(paths: Sequence[str], sampling: Sampling) -> list[Tensor]:
    """Return the middle clips of files, uint8 (T, 3, H, W) each.

    Raises:
        InputError: a file cannot be read.
    """
    try:
        return [read_clip(probe(path), sampling).frames for path in paths]
    except UnreadableVideo as error:
        raise InputError(f"model.scoring.anchors: {error}") from error
