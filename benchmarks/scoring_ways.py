"""What benchmarks/scoring.py compares: ways of scoring a video's clips against anchors, on equal weights.

The released code's way is written from the paper's description: for each anchor both videos are decoded,
encoded and read again as one prompt, and 50 steps of Adam follow. It is given what would only blur the
comparison: frames prepared on the device, one pass through a file for all clips of a video, and, if asked,
clips side by side. Ours is what `RankingModule.rate` does, taken apart to be timed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from experiment import now
from scaling import adam_values
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache

from datamodules.labels import preference
from datamodules.video import Cut, Video, read_clips
from vqa_lightning.families.tokens import Tokens
from vqa_lightning.lmm import LMM
from vqa_lightning.training import RankingModule

PARTS = ("decode", "vision", "prefill", "optimum")


@dataclass
class Clock:
    """Seconds of each part, summed until it is read."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the seconds of a block to a part, and wait for the device."""
        began = now(self.device)
        yield
        self.seconds[part] += now(self.device) - began


@dataclass(frozen=True)
class Setting:
    """One model with what it scores.

    Attributes:
        name: for the tables.
        module: with its anchors set, in evaluation mode.
        anchors: the videos that its anchors are the middle clips of.
        videos: that are scored.
        draws: clips of each of them.
    """

    name: str
    module: RankingModule
    anchors: Sequence[Video]
    videos: Sequence[Video]
    draws: int

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return self.module.device

    def decode(self, video: Video, draws: int) -> Tensor:
        """Read clips uint8 (draws, T, 3, H, W), in one pass through the file."""
        cuts = [Cut(draw) for draw in range(draws)]
        return torch.stack([clip.frames for clip in read_clips(video, self.module.sampling, cuts)])

    def encode(self, *clips: Tensor) -> Tokens:
        """Return the tokens of clips uint8 (n, T, 3, H, W), those of each argument of one size."""
        return self.module.lmm.encode([clip for some in clips for clip in some.to(self.device) / 255])

    def prefers(self, logits: Tensor) -> Tensor:
        """Return how far the second clip is preferred; dividing logits by 5, as released, costs the same."""
        return preference(self.module.levels(logits))


Way = Callable[[Setting, Video, Clock], Tensor]
"""Raw scores (n,) of a video's clips; of the released code's way before its optimiser and its min-max."""


def released(setting: Setting, video: Video, clock: Clock, together: int = 1) -> Tensor:
    """Read both videos again for each anchor, as released.

    Args:
        setting: weights and anchors.
        video: to be scored.
        clock: of the parts.
        together: clips that are encoded and read as one batch.
    """
    lmm, anchors = setting.module.lmm, setting.module.anchors
    wins = anchors.matrix.new_empty(setting.draws, anchors.count)
    for place, anchor in enumerate(setting.anchors):
        with clock("decode"):
            first, clips = setting.decode(anchor, 1), setting.decode(video, setting.draws)
        for begin in range(0, setting.draws, together):
            second = clips[begin : begin + together]
            count = len(second)
            with clock("vision"):
                tokens = setting.encode(first.expand(count, -1, -1, -1, -1), second)
            with clock("prefill"):
                pair = tokens.take(list(range(count))), tokens.take(list(range(count, 2 * count)))
                wins[begin : begin + together, place] = setting.prefers(lmm.compare(*pair)[0])
    with clock("optimum"), torch.enable_grad():
        for row in wins.split(together):
            adam_values(bordered(anchors.matrix, row))
    return anchors.place(wins)


def bordered(matrix: Tensor, wins: Tensor) -> Tensor:
    """Return the anchors' matrices (B, n + 1, n + 1) with a last item that is preferred by wins (B, n)."""
    count = len(matrix)
    whole = wins.new_full((len(wins), count + 1, count + 1), 0.5)
    whole[:, :-1, :-1] = matrix
    whole[:, -1, :-1] = wins
    whole[:, :-1, -1] = 1 - wins
    return whole


def released_together(setting: Setting, video: Video, clock: Clock) -> Tensor:
    """Do the same with all clips of the video as one batch."""
    return released(setting, video, clock, together=setting.draws)


def encoded(setting: Setting, video: Video, clock: Clock) -> Tokens:
    """Show each clip of a video to the tower once."""
    with clock("decode"):
        clips = setting.decode(video, setting.draws)
    with clock("vision"):
        return setting.encode(clips)


def without_prefixes(setting: Setting, video: Video, clock: Clock) -> Tensor:
    """Show every video to the tower once, and whole prompts to the language model."""
    lmm, anchors = setting.module.lmm, setting.module.anchors
    tokens = encoded(setting, video, clock)
    with clock("prefill"):
        wins = anchors.matrix.new_empty(setting.draws, anchors.count)
        for places, held, _ in anchors.read(lmm):
            first = held.take(list(range(len(places))) * setting.draws)
            second = tokens.take([row for row in range(setting.draws) for _ in places])
            wins[:, places] = setting.prefers(lmm.compare(first, second)[0]).view(setting.draws, -1)
    with clock("optimum"):
        return anchors.place(wins)


def anchor_first(setting: Setting, video: Video, clock: Clock, *, both_orders: bool = False) -> Tensor:
    """Score our way, in one order or in both."""
    lmm, anchors = setting.module.lmm, setting.module.anchors
    tokens = encoded(setting, video, clock)
    with clock("prefill"):
        wins = anchors.wins(lmm, tokens, setting.prefers, both_orders=both_orders)
    with clock("optimum"):
        return anchors.place(wins)[:, 0]


def both_orders(setting: Setting, video: Video, clock: Clock) -> Tensor:
    """Score our way in both orders; return the score of the order with the anchor first."""
    return anchor_first(setting, video, clock, both_orders=True)


def pointwise(setting: Setting, video: Video, clock: Clock) -> Tensor:
    """Score by the other judgement, which needs no anchors and has another scale."""
    tokens = encoded(setting, video, clock)
    with clock("prefill"):
        return setting.module.lmm.score(tokens)


WAYS: dict[str, Way] = {
    "released, clip by clip": released,
    "released, clips together": released_together,
    "ours, without prefixes": without_prefixes,
    "ours, anchor first": anchor_first,
    "ours, both orders": both_orders,
    "pointwise": pointwise,
}


@dataclass(frozen=True)
class Operations:
    """Floating-point operations for one clip.

    Attributes:
        vision: v, the tower's.
        language_model: l, the language model's for the clip's own tokens, words left out.
        ways: of each of `WAYS`, words included.
    """

    vision: int
    language_model: int
    ways: dict[str, int]

    def bound(self, anchors: int) -> float:
        """Return how many times as many operations the released code's way takes, words left out."""
        v, l = self.vision, self.language_model  # noqa: E741
        return anchors * (2 * v + 2 * l) / (v + anchors * l)


def operations(lmm: LMM, clip: Tensor, anchors: int) -> Operations:
    """Count the operations for one clip, on the meta device too.

    Of causal attention half the square, as in budget/flops.py; the head's five words are left out.

    Args:
        lmm: of a family whose tokens stand at places that just count.
        clip: (1, T, 3, H, W) in [0, 1], of the size that the tower sees.
        anchors: their number.
    """
    opening, _, between, _, question = (len(ids) for ids in lmm.prompt_ids(tuple(clip.shape[-2:])))
    with torch.no_grad():
        tokens = lmm.encode(clip)
    block, width = tokens.embeddings.shape[1:]
    layers = cast(Any, lmm.family.language_model).layers
    heads = sum(int(layer.self_attn.o_proj.in_features) for layer in layers)

    def counted(run: Callable[[], object]) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            run()
        return int(counter.get_total_flops())

    def read(length: int, before: int = 0) -> int:
        cache = DynamicCache()
        with torch.no_grad():
            for some in (before, length):
                sequence = Tokens.alike(tokens.embeddings.new_zeros(1, some, width))
                flops = counted(partial(lmm.family.hidden, sequence, cache)) if some else 0
        return flops - 2 * length**2 * heads

    vision = counted(lambda: lmm.encode(clip))
    whole = read(opening + 2 * block + between + question)
    rest = read(between + block + question, before=opening + block)
    first = read(opening + block)
    again = anchors * (2 * vision + whole)
    ways = (
        again,
        again,
        vision + anchors * whole,
        vision + anchors * rest,
        vision + first + 2 * anchors * rest,
        vision + first,
    )
    return Operations(vision, read(block), dict(zip(WAYS, ways, strict=True)))
