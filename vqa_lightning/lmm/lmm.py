"""The large multimodal model behind both judgements.

Pairwise: two clips in one prompt, and the logits of the five level words at the answer position, never
generated text. Pointwise: a scalar from the hidden state at the last token of the first clip, which in a
causal model has seen only the prompt's opening and that clip. Each clip passes the vision tower once,
however many prompts it appears in.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from datamodules.devices import for_device
from datamodules.errors import InputError
from datamodules.labels import LEVELS
from datamodules.labels.seen_clips import SeenClips
from datamodules.video import Sampling
from datamodules.video.views import VIEWS, View, view
from vqa_lightning.families import FAMILIES, Family, load_family
from vqa_lightning.families.tokens import Tokens, join, stack
from vqa_lightning.lmm.config import LMMConfig
from vqa_lightning.lmm.feature_cache import FeatureCache
from vqa_lightning.lmm.frozen_eyes import FrozenEyes
from vqa_lightning.lmm.motion import FrameDifferences, VideoBackbone, build_motion
from vqa_lightning.lmm.prefix import Prefix
from vqa_lightning.lmm.prompt import ANSWER, QUESTION, QWEN_CHAT, SYSTEM
from vqa_lightning.lmm.quality_tower import QualityTower
from vqa_lightning.losses import position_entropy

FRAME_SECONDS = 1 / 30
"""Between consecutive frames, as the prompt's time stamps have it."""

Clips = Tensor | Sequence[Tensor]
"""(N, T, 3, H, W) in [0, 1], or N clips (T, 3, H, W) that differ in size."""


class Judged(NamedTuple):
    """The answers of the model on B pairs.

    Attributes:
        levels: (O, B, 5) logits of the level words, inferior first, of the second clip beside the first; with
            both orders (O = 2) then of the first beside the second. None where pairwise was not asked.
        scores: (2, B) of the first and the second clips; None where pointwise was not asked.
        entropy: (O, B) mean entropy of the next word over all positions, in nats, where it was asked.
    """

    levels: Tensor | None
    scores: Tensor | None
    entropy: Tensor | None


class LMM(nn.Module):
    """A multimodal model that compares two clips and scores one.

    Args:
        config: which checkpoint, or the family and sizes of the embedded model.
        sampling: how clips are cut: it decides what the towers and the motion path see. The prompt has the
            sampling's nominal time stamps, so that clips of one size make prompts of one length.
        dtype: of the published model's weights; "auto": as they are stored.
        weights: False: build a published model without reading its weights.

    Raises:
        InputError: the checkpoint is missing, of an unknown family, or its level words share a first token.
    """

    answer_ids: Tensor

    def __init__(
        self,
        config: LMMConfig,
        sampling: Sampling,
        dtype: torch.dtype | Literal["auto"] = torch.float32,
        *,
        weights: bool = True,
    ) -> None:
        super().__init__()
        published = config.pretrained is not None
        if config.pretrained is None:
            family = FAMILIES[config.embedded.family]
            said = QWEN_CHAT.format(system=SYSTEM, user=QUESTION.format(video=family.video))
            self.family: Family = family.embedded(config.embedded, (said, ANSWER, *LEVELS))
        else:
            self.family = load_family(config.pretrained, dtype, weights=weights)
        self.model = self.family.model
        if published if config.checkpointing is None else config.checkpointing:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
        for module in self.family.unreached:
            module.requires_grad_(False)
        self.view: View = config.view or ("resize" if published else "crop")
        self.sampling = sampling
        self.prompt = config.prompt
        self.pictures = config.pictures
        pictures = sampling.segments * (1 if config.motion else sampling.frames)
        if self.pictures and VIEWS[self.view] > 1 and pictures % self.family.merged_frames:
            raise InputError(
                f"model.sampling.segments must be even under model.lmm.view {self.view}, for the tower "
                f"merges {self.family.merged_frames} consecutive pictures; got {pictures} of each kind."
            )
        width = self.family.head.in_features
        self.score_head = nn.Linear(width, 1)
        self.quality_tower = QualityTower(sampling.frames, width) if config.quality_tower else None
        motion = sampling.frames, width, config.motion_weights
        self.motion = (
            build_motion(config.motion, *motion, trained=config.motion_trained) if config.motion else None
        )
        nn.init.zeros_(self.score_head.bias)
        encode = self.family.tokenizer
        words = [encode(f" {level}", add_special_tokens=False).input_ids[0] for level in LEVELS]
        if len(set(words)) != len(LEVELS):
            raise InputError(
                f"the tokenizer of model.lmm.pretrained must give each level word a first token of its own; "
                f"got {config.pretrained!r}: choose another model."
            )
        self.register_buffer("answer_ids", torch.tensor(words, device="cpu"), persistent=False)
        self._prompts: dict[tuple[int, int], tuple[list[int], ...]] = {}
        self.cache: FeatureCache | None = None
        self.seen: SeenClips | None = None
        """Features of clips by what they show, where all that looks at pixels is `fixed`."""

    @property
    def seconds(self) -> list[float]:
        """Nominal time of each picture that the tower sees."""
        spacing = 1.0 if self.sampling.spacing is None else self.sampling.spacing
        frames = 1 if self.motion is not None else self.sampling.frames
        times = [
            segment * spacing + frame * FRAME_SECONDS
            for segment in range(self.sampling.segments)
            for frame in range(frames)
        ]
        return times * VIEWS[self.view]

    def prompt_ids(self, size: tuple[int, int]) -> tuple[list[int], ...]:
        """Return the prompt's tokens in five parts: text, first video, text, second video, text.

        Args:
            size: height and width of the pictures as the tower sees them.
        """
        if size not in self._prompts:
            family = self.family
            user = QUESTION.format(video=family.video)
            if self.prompt == "paper" or family.processor.chat_template is None:
                text = QWEN_CHAT.format(system=SYSTEM, user=user)
            else:
                said = [("system", SYSTEM), ("user", user)]
                turns: list[Any] = [
                    {"role": role, "content": [{"type": "text", "text": words}]} for role, words in said
                ]
                text = family.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            text += ANSWER if text[-1].isspace() else f" {ANSWER}"
            text = text.replace(family.video, family.video_text(self.seconds, size))
            # Words next to a video are tokenised beside it, as the family's processor does.
            ids = family.tokenizer(text, add_special_tokens=False).input_ids
            seen = family.visual_ids | family.delimiters
            marks = [place for place, token in enumerate(ids) if token in seen]
            middle = len(marks) // 2
            a, b = marks[0], marks[middle - 1] + 1
            c, d = marks[middle], marks[-1] + 1
            self._prompts[size] = (ids[:a], ids[a:b], ids[b:c], ids[c:d], ids[d:])
        return self._prompts[size]

    def clip_tokens(self, size: tuple[int, int]) -> int:
        """Return how many tokens stand for a clip in a prompt.

        Args:
            size: height and width of the pictures as the tower sees them.
        """
        block = self.prompt_ids(size)[1]
        kept = len(block) if self.pictures else sum(map(len, self.family.around(block)))
        return kept + self.sampling.segments * len(self.by_segment)

    @property
    def by_segment(self) -> list[QualityTower | FrameDifferences | VideoBackbone]:
        """What gives a token a segment, in their order."""
        return [part for part in (self.quality_tower, self.motion) if part is not None]

    def encode(self, clips: Clips, keys: Sequence[str] = ()) -> Tokens:
        """Turn clips into the tokens that stand for them in the prompt.

        Args:
            clips: (N, T, 3, H, W) in [0, 1], uint8 where it `takes_bytes`, or N clips of different sizes.
            keys: what `seen` knows each clip by, "" for a clip that is not kept; a clip that is known may be
                empty. Without keys all clips are looked at.

        Returns:
            The tokens of each clip, each kind in order of time: those of its pictures, of the quality tower,
            then of motion. Without pictures the others stand between what opens and what closes a video.
        """
        if self.seen is not None and keys:
            return self.tokens_of(self._known(clips, keys, self.seen))
        if isinstance(clips, Tensor):
            return self._encode(clips)
        sizes = [tuple(clip.shape[-2:]) for clip in clips]
        groups = [[row for row, size in enumerate(sizes) if size == one] for one in dict.fromkeys(sizes)]
        encoded = stack([self._encode(torch.stack([clips[row] for row in rows])) for rows in groups])
        order = [row for rows in groups for row in rows]
        return encoded.take([order.index(row) for row in range(len(order))])

    def _known(self, clips: Clips, keys: Sequence[str], seen: SeenClips) -> Tensor:
        """Return the features (N, S, F) of clips, found or computed and kept."""
        found = {row: seen[key].to(self.model.device) for row, key in enumerate(keys) if key in seen}
        sizes: dict[torch.Size, list[int]] = {}
        for row in sorted({*range(len(keys))} - found.keys()):
            sizes.setdefault(clips[row].shape, []).append(row)
        for rows in sizes.values():
            found |= zip(rows, self.eyes(torch.stack([clips[row] for row in rows])), strict=True)
            for row in (row for row in rows if keys[row]):
                seen.keep(keys[row], found[row])
        return torch.stack([found[row] for row in range(len(keys))])

    @property
    def fixed(self) -> bool:
        """Whether training changes nothing that looks at pixels: `eyes` say all of a clip."""
        return not self.pictures and all(part.fixed for part in self.by_segment)

    @property
    def takes_bytes(self) -> bool:
        """Whether clips may be uint8: most of a large frame is then never a float."""
        return not self.pictures and all(part.takes_bytes for part in self.by_segment)

    @property
    def eyes(self) -> FrozenEyes:
        """What looks at pixels without a tower of the family's, where it is `fixed`."""
        return FrozenEyes(self.by_segment)

    def tokens_of(self, features: Tensor) -> Tokens:
        """Return the tokens of clips without pictures, from what `eyes` see."""
        parts, dtype = self.by_segment, cast(Tensor, self.model.get_input_embeddings().weight).dtype
        each = torch.split(features, [part.feature_width for part in parts], dim=-1)
        projected = [part.project(own) for part, own in zip(parts, each, strict=True)]
        by_segment = [Tokens.alike(tokens.to(dtype)) for tokens in projected]
        # The words around the videos do not depend on the pictures' size: any will do.
        side = self.sampling.window or self.family.patch
        block = self.prompt_ids(self.family.size_for(side, side, len(self.seconds)))[1]
        opening, closing = (
            [Tokens.alike(self._embed(ids)).expand(len(features))] if ids else []
            for ids in self.family.around(block)
        )
        return join(*opening, *by_segment, *closing)

    def _encode(self, clips: Tensor) -> Tokens:
        if not self.pictures:
            # Not `eyes`: a motion backbone may be trained.
            return self.tokens_of(torch.cat([part.features(clips) for part in self.by_segment], dim=-1))
        dtype = cast(Tensor, self.model.get_input_embeddings().weight).dtype
        seen, by_segment = self._seen(clips), [part(clips) for part in self.by_segment]
        return join(seen, *(Tokens.alike(tokens.to(dtype)) for tokens in by_segment)) if by_segment else seen

    def _seen(self, clips: Tensor) -> Tokens:
        """Show clips to the family's own tower."""
        pictures = clips if self.motion is None else clips[:, :: self.sampling.frames]
        height, width = clips.shape[-2:]
        size = self.family.size_for(height, width, len(self.seconds))
        pictures = view(pictures, self.view, size, self.family.patch, self.family.resize)
        show = self.family.features
        features, deep = show(pictures) if self.cache is None else self.cache.features(pictures, show)
        ids = self.prompt_ids(size)[1]
        places = [place for place, token in enumerate(ids) if token in self.family.visual_ids]
        visual = for_device(torch.tensor(places), clips.device)
        embeddings = self._embed(ids).expand(len(clips), -1, -1)
        embeddings = embeddings.index_copy(1, visual, features.to(embeddings.dtype))
        if deep is not None:
            everywhere = deep.new_zeros(*embeddings.shape[:2], *deep.shape[2:])
            deep = everywhere.index_copy(1, visual, deep)
        positions, advance = self.family.positions(ids, size) or (None, None)
        if positions is not None:
            positions = for_device(positions, clips.device)
        return Tokens.alike(embeddings, positions, advance, deep)

    def _embed(self, ids: list[int]) -> Tensor:
        embedding = self.model.get_input_embeddings()
        return cast(Tensor, embedding(for_device(torch.tensor([ids]), self.answer_ids.device)))

    def _text(self, part: int, batch: int) -> Tokens:
        # The words around the videos do not depend on the pictures' size: any known one will do.
        ids = next(iter(self._prompts.values()))[part]
        return Tokens.alike(self._embed(ids)).expand(batch)

    def _at(self, hidden: Tensor, places: Sequence[int]) -> Tensor:
        """Return the hidden state (B, D) at one place of each sequence."""
        if len(set(places)) == 1:
            return hidden[:, places[0]]
        rows = torch.arange(len(places), device=hidden.device)
        return hidden[rows, for_device(torch.tensor(places), hidden.device)]

    def compare(
        self, first: Tokens, second: Tokens, *, entropy: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Judge pairs of encoded clips.

        Args:
            first: B clips, from `encode`.
            second: B clips.
            entropy: also return the mean entropy of the next word over all positions.

        Returns:
            Logits (B, 5) of the level words, inferior first; pointwise scores (B,) of the first clips; the
            entropy (B,) in nats, if asked.
        """
        batch = len(first)
        opening = self._text(0, batch)
        prompt = join(opening, first, self._text(2, batch), second, self._text(4, batch))
        hidden = self.family.hidden(prompt)
        answers = self._at(hidden, [length - 1 for length in prompt.lengths])
        ends = [opening.lengths[0] + length - 1 for length in first.lengths]
        return (
            self._levels(answers),
            self._score(self._at(hidden, ends)),
            position_entropy(hidden, self.family.head.weight, prompt.lengths) if entropy else None,
        )

    def begin(self, first: Tokens) -> tuple[Prefix, Tensor]:
        """Read prompts up to where their second clips begin.

        Args:
            first: B clips, from `encode`, all of one length.

        Returns:
            What `follow` goes on from, and the clips' pointwise scores (B,).
        """
        cache = DynamicCache()
        opening = self._text(0, len(first))
        prompt = join(opening, first, self._text(2, len(first)))
        hidden = self.family.hidden(prompt, cache)
        end = opening.lengths[0] + first.lengths[0] - 1
        return Prefix.of(cache, prompt.advance), self._score(hidden[:, end])

    def follow(self, prefix: Prefix, second: Tokens) -> Tensor:
        """Judge clips beside the clips that prompts have begun with.

        Args:
            prefix: B beginnings, from `begin`.
            second: B clips, from `encode`.

        Returns:
            Logits (B, 5) of the level words, those of `compare`.
        """
        batch = len(second)
        rest = join(second, self._text(4, batch))
        hidden = self.family.hidden(rest.after(prefix.advance), prefix.cache())
        return self._levels(self._at(hidden, [length - 1 for length in rest.lengths]))

    def _levels(self, hidden: Tensor) -> Tensor:
        words = self.family.head.weight[self.answer_ids].float()
        return self._in_full(lambda: hidden.float() @ words.T)

    def _score(self, hidden: Tensor) -> Tensor:
        weight, bias = self.score_head.weight, self.score_head.bias
        return self._in_full(lambda: nn.functional.linear(hidden.float(), weight.float(), bias.float())[:, 0])

    def _in_full(self, product: Callable[[], Tensor]) -> Tensor:
        """Compute in float32 whatever autocast says: bfloat16 would make ties of scores that differ."""
        with torch.autocast(self.answer_ids.device.type, enabled=False):
            return product()

    def score(self, clips: Tokens) -> Tensor:
        """Return pointwise scores (B,) of encoded clips, unbounded, higher better."""
        prompt = join(self._text(0, len(clips)), clips)
        return self._score(self._at(self.family.hidden(prompt), [length - 1 for length in prompt.lengths]))

    def forward(
        self,
        clips: Clips,
        keys: Sequence[str] = (),
        *,
        pairwise: bool = True,
        pointwise: bool = True,
        both_orders: bool = True,
        entropy: bool = False,
    ) -> Judged:
        """Judge B pairs.

        Args:
            clips: the 2 B clips, all first ones, then all second ones.
            keys: of the clips, as `encode` has them.
            pairwise: ask for levels.
            pointwise: ask for scores. Asked in both orders, pairs give them for nothing.
            both_orders: ask each pair in both orders.
            entropy: also return the entropy over all positions.
        """
        tokens = self.encode(clips, keys)
        pairs = len(tokens) // 2
        first, second = list(range(pairs)), list(range(pairs, 2 * pairs))
        if not pairwise:
            return Judged(None, torch.stack(self.score(tokens).chunk(2)), None)
        asked = (first + second, second + first) if both_orders else (first, second)
        logits, scores, entropies = self.compare(
            tokens.take(asked[0]), tokens.take(asked[1]), entropy=entropy
        )
        if pointwise and not both_orders:
            scores = torch.cat([scores, self.score(tokens.take(second))])
        orders = 2 if both_orders else 1
        return Judged(
            torch.stack(logits.chunk(orders)),
            torch.stack(scores.chunk(2)) if pointwise else None,
            None if entropies is None else torch.stack(entropies.chunk(orders)),
        )
