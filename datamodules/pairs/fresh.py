"""The pairs that a round draws afresh, of every source."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from datamodules.labels.consensus import Consensus, Versions
from datamodules.labels.human_labels import HumanScores, scores_among
from datamodules.labels.labelling import Labelling
from datamodules.pairs.drawing import Drawing
from datamodules.pairs.referenced import reference_pairs
from datamodules.pairs.scored import human_pairs, teacher_pairs
from datamodules.pairs.synthetic import synthetic_pairs
from datamodules.simulators import Simulator, bases


@dataclass(frozen=True)
class Known:
    """What is known of what a round may train on.

    Attributes:
        train: ids of the videos.
        consensus: what the round's annotators say of them.
        versions: what a full-reference metric says of versions of clean sources; None: nothing.
        human: what each list of opinions says of the videos.
    """

    train: Sequence[str]
    consensus: Consensus
    versions: Versions | None
    human: Sequence[HumanScores]


def fresh_pairs(
    counts: Mapping[str, int],
    known: Known,
    simulators: Mapping[str, Simulator],
    drawing: Drawing,
    labelling: Labelling,
    within: float,
    seed: Sequence[int],
    each: Mapping[str, int] | None = None,
) -> Iterator[pa.Table]:
    """Draw the pairs of each source by itself, so that none depends on how many there are of another.

    Args:
        counts: source -> number of pairs.
        known: what the pairs are drawn from.
        simulators: of synthetic pairs, by name.
        drawing: how pairs and their clips are drawn.
        labelling: how scores become labels.
        within: share of the reference pairs that compare versions of one source.
        seed: of the round.
        each: number of synthetic pairs of each simulator, by name; None: shared out alike.
    """
    ladder = {name: len(simulator.levels) for name, simulator in simulators.items()}
    generator = {source: np.random.default_rng([*seed, place]) for place, source in enumerate(counts)}
    if count := counts["synthetic"]:
        yield synthetic_pairs(
            generator["synthetic"],
            known.train,
            count if each is None else each,
            ladder,
            drawing.draws,
            bases=bases(simulators),
            composed=drawing.composed,
        )
    if count := counts["teacher"]:
        yield teacher_pairs(generator["teacher"], known.consensus, count, drawing.draws, labelling)
    if count := counts["reference"]:
        yield reference_pairs(generator["reference"], known.versions, count, within, labelling)
    if count := counts["human"]:
        lists = scores_among(known.human, known.train)
        yield human_pairs(generator["human"], lists, count, drawing.draws)
