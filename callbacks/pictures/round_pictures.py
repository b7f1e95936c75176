"""Pictures of every round for TensorBoard: what the student confuses, how it scores, how labels move.

All pictures are drawn from what `SelfImprovement` hands over: nothing is judged again, and only the first
process draws.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from lightning.pytorch import Trainer
from matplotlib.figure import Figure
from scipy.special import ndtr

from callbacks.pictures.cards import WIDTH, card_style, writers
from callbacks.pictures.level_plots import confusion, plot_confusion, plot_flips
from callbacks.pictures.score_plots import Floats, complete_ladders, plot_annotators, plot_severity
from callbacks.rounds import FinishedRound, RoundListener
from callbacks.rounds.requests import ids
from datamodules.labels import Labelling, hard_levels
from datamodules.pairs import PAIR_SCHEMA
from datamodules.pairs.relabelling import level_flow, relabelled
from datamodules.round_data import RoundDataModule
from vqa_lightning.metrics import srcc
from vqa_lightning.metrics.reliability import plot_reliability, reliability
from vqa_lightning.scoring.calibration import ladder_pairs
from vqa_lightning.training import RankingModule

FOLLOWED = 1000
"""Pairs of the first round whose labels are followed through all rounds; a checkpoint holds them."""

SHOWN_FLOWS = 4
"""Flows that are drawn beside each other, the last ones."""


class RoundPictures(RoundListener):
    """Draws each round, on the report split where nothing else is said.

    - `pictures/labels_flipped_in_round`: how re-annotation changed the labels of the round's pairs of
      different videos;
    - `pictures/labels_flipped_since_start`: the same of one set of pairs through all rounds so far;
    - `pictures/levels_confused`: levels given and predicted, of synthetic pairs;
    - `pictures/scores_by_annotator`: student against each teacher, their ensemble and the Laplacian baseline;
    - `pictures/scores_by_severity`: scores against known severity, by simulator;
    - `pictures/scores_come_true`: whether P(A over B), from scores and standard errors, does within ladders.

    TensorBoard keeps ten pictures of each; `--samples_per_plugin images=100` keeps those of more rounds.
    """

    def __init__(self) -> None:
        self._followed = PAIR_SCHEMA.empty_table()
        self._flows: list[list[list[int]]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the pairs that are followed with their present labels, and how these moved so far."""
        return {"followed": self._followed.to_pylist(), "flows": self._flows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self._followed = pa.Table.from_pylist(state_dict["followed"], schema=PAIR_SCHEMA)
        self._flows = state_dict["flows"]

    def on_round_end(self, trainer: Trainer, pl_module: RankingModule, finished: FinishedRound) -> None:
        """Draw the round."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        self._follow(finished, data.labelling)
        for writer in writers(trainer):
            with card_style():
                labels = self._label_figures(finished, data.labelling)
                for tag, figure in chain(labels, _score_figures(data, pl_module, finished)):
                    writer.add_figure(f"pictures/{tag}", figure, trainer.global_step)

    def _follow(self, finished: FinishedRound, labelling: Labelling) -> None:
        if not self._flows:
            real = finished.pairs.filter(pc.equal(finished.pairs["source"], "teacher"))
            self._followed = real.slice(0, FOLLOWED)
        self._flows.append(level_flow(self._followed, finished.after, labelling).tolist())
        self._followed = relabelled(self._followed, finished.after, labelling)

    def _label_figures(self, finished: FinishedRound, labelling: Labelling) -> Iterator[tuple[str, Figure]]:
        number, judged = finished.row.round, finished.judged
        counts = confusion(hard_levels(judged.given), hard_levels(judged.predicted))
        yield "levels_confused", plot_confusion(f"round {number}: {counts.sum()} synthetic pairs", counts)

        flow = level_flow(finished.pairs, finished.after, labelling)
        if flow.any():
            title = f"round {number}: labels of its {flow.sum()} real pairs"
            yield "labels_flipped_in_round", plot_flips(title, [str(number), str(number + 1)], [flow])
        flows = [np.array(one) for one in self._flows[-SHOWN_FLOWS:]]
        if all(one.any() for one in flows):
            columns = [str(number + 1 - back) for back in range(len(flows), -1, -1)]
            title = f"round {number}: labels of {flows[-1].sum()} real pairs"
            yield "labels_flipped_since_start", plot_flips(title, columns, flows)


def _score_figures(
    data: RoundDataModule, module: RankingModule, finished: FinishedRound
) -> Iterator[tuple[str, Figure]]:
    number, report = finished.row.round, ids(data, "report")
    student = finished.scores["student"]
    ladders = {}
    for name, simulator in data.simulators.items():
        raw = complete_ladders(student, report, simulator.identity, len(simulator.levels))
        ladders[name] = _published(module, raw)
    title = f"round {number}: mean ± deviation over contents"
    yield "scores_by_severity", plot_severity(title, ladders)

    known = [(video, None, 0) for video in report]
    known = [key for key in known if all(key in own for own in finished.scores.values())]
    across = {name: np.array([own[key] for key in known]) for name, own in finished.scores.items()}
    own = across.pop("student")
    others = {name: (other, srcc(own, other)) for name, other in across.items()}
    title = f"round {number}: {len(known)} videos"
    yield "scores_by_annotator", plot_annotators(title, _published(module, own), others)

    table = finished.student.table
    difference, variance = ladder_pairs(table.filter(pc.is_in(table["video_id"], pa.array(report))))
    if len(difference):
        chance = ndtr(difference / np.sqrt(np.maximum(variance, 1e-12)))  # 0 where all scores are one
        curve = reliability(chance, np.ones_like(chance))
        figure = plot_reliability({f"round {number}, {len(chance)} pairs": curve})
        figure.set_size_inches(WIDTH, 1.2 * WIDTH)
        yield "scores_come_true", figure


def _published(module: RankingModule, raw: Floats) -> Floats:
    score, _ = module.published(torch.from_numpy(raw), torch.zeros(raw.shape))
    return np.asarray(score, dtype=np.float64)
