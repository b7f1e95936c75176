"""The pair table: which clips are compared in a round, how each side is distorted, and the label.

A table is drawn from (seed, round) alone, on the host, before training: no process, worker or device draws
anything later that could change a pair or its label.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from datamodules.labels import Consensus, Versions
from datamodules.pairs.scored import balanced, pairs_from_scores
from datamodules.pairs.synthetic import synthetic_pairs
from vqa_lightning.families import InputError


def draw_pairs(
    video_ids: Sequence[str],
    ladder: Mapping[str, int],
    *,
    seed: int,
    round: int,
    synthetic: int,
    teacher: int = 0,
    reference: int = 0,
    others: pa.Table | None = None,
    consensus: Consensus | None = None,
    versions: Versions | None = None,
    bases: Mapping[str, Sequence[str]] | None = None,
    composed: float = 0.0,
    draws: int = 8,
    blur: float = 0.5,
    min_confidence: float = 0.0,
    smoothing: float = 0.0,
) -> pa.Table:
    """Draws the pair table of one round.

    Args:
        video_ids: the split's videos.
        ladder: simulator name -> number of levels above the source.
        seed: with `round`, all that the draw depends on besides its arguments.
        round: number of the round.
        synthetic: number of pairs of one source under two severities of one simulator.
        teacher: number of pairs of different videos labelled by the consensus, balanced over the five levels.
        reference: number of pairs of versions of different videos labelled by full-reference scores,
            balanced likewise.
        others: pairs to be mixed in.
        consensus: scores of the videos; needed where `teacher` is not 0.
        versions: scores of distorted versions; needed where `reference` is not 0.
        bases: simulator name -> the simulators that may lie under both sides of its pairs.
        composed: share of the synthetic pairs with such a base, where there is one.
        draws: number of different clips (times and windows) of a video that pairs are drawn from.
        blur: of the soft labels, in margins (`levels.soft_levels`).
        min_confidence: pairs labelled by the consensus are not drawn if their likeliest level has less, any
            smoothing apart.
        smoothing: from 0 to less than 1; labels from scores are mixed with the uniform distribution, whose
            weight is this times `Consensus.doubt`. The margin is left as it is, for it holds the variance.

    Returns:
        A table of PAIR_SCHEMA in random order.

    Raises:
        InputError: nothing to draw from.
    """
    if not video_ids or (synthetic and not ladder):
        raise InputError("no pairs can be drawn: the split has no videos or no simulator is named.")
    generator = np.random.default_rng([seed, round])
    parts = []
    if synthetic:
        parts.append(synthetic_pairs(generator, video_ids, synthetic, ladder, bases or {}, composed, draws))
    if teacher:
        known = consensus.restrict(video_ids) if consensus is not None else None
        if known is None or len(known.video_ids) < 2:
            raise InputError(
                "fewer than two videos of the split have teacher scores: name teachers that cover them, "
                "or set data.teacher_pairs to 0."
            )
        first, second = balanced(generator, known, teacher, blur, min_confidence)
        parts.append(pairs_from_scores(generator, known, first, second, draws, blur, smoothing=smoothing))
    if reference:
        if versions is None or len(set(versions.consensus.video_ids)) < 2:
            raise InputError(
                "fewer than two videos of the split have versions with full-reference scores: name "
                "simulators that change pixels in place, or set data.reference_pairs to 0."
            )
        first, second = balanced(generator, versions.consensus, reference)
        scores = versions.consensus
        parts.append(
            pairs_from_scores(
                generator, scores, first, second, draws, blur, versions, smoothing, source="reference"
            )
        )
    if others is not None:
        parts.append(others)
    table = pa.concat_tables(parts)
    return table.take(generator.permutation(len(table)))
