"""Labelled pairs for training: the round's pair table, read in workers and distorted on the device.

Nothing here decides when a round ends. `SelfImprovement` annotates the corpus and calls `begin_round` with
what the annotators found; pairs then follow from (seed, round) and the loaders are made anew each epoch.
"""

import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from datamodules.batches import PairBatch, PairDataset
from datamodules.batches.clip_cache import ClipCache
from datamodules.batches.device import distort
from datamodules.batches.pair_loader import pair_loader
from datamodules.checks import check_least
from datamodules.codecs import Codec
from datamodules.corpus import (
    Splits,
    assign_splits,
    find_duplicates,
    find_sources,
    join_contents,
    videos,
)
from datamodules.distortions import Distortion
from datamodules.errors import InputError
from datamodules.files import cache_folder
from datamodules.labels import Annotator, Consensus, Labelling, LabelStore, Versions
from datamodules.labels.human_labels import HumanScores, MOSList, read_mos
from datamodules.labels.label_store import default_labels
from datamodules.labels.references import CIRCUITS, References
from datamodules.labels.seen_clips import SeenClips
from datamodules.pairs import PAIR_SCHEMA, SOURCES, Drawing, LaterRounds, PairCounts, read_pairs
from datamodules.pairs.counts import counted, part
from datamodules.pairs.drawing import evaluation_pairs, shuffled
from datamodules.pairs.families import counted_by_simulator, shared_out
from datamodules.pairs.fresh import Known, fresh_pairs
from datamodules.pairs.hard.finding import RoundBefore, find_hard
from datamodules.pairs.relabelling import relabelled
from datamodules.pairs.table import drawn_among
from datamodules.procedural import MOS, REFERENCES, VERSION, write_corpus, write_mos
from datamodules.simulators import Simulator, find_simulators
from datamodules.teachers.artefacts import Artefacts
from datamodules.teachers.clean_versions import CleanVersions
from datamodules.teachers.natural_scenes.brisque import BRISQUE
from datamodules.teachers.natural_scenes.niqe import NIQE
from datamodules.teachers.scores_file import ScoresFile
from datamodules.teachers.teacher import Teacher
from datamodules.video import Video
from datamodules.video_data import VideoDataModule

EMBEDDED_CONTENTS = 128

RESERVED_NAMES = ("student", "ensemble", "laplacian")
"""Columns of the report that no teacher may have."""


class RoundDataModule(VideoDataModule):
    """Pairs of one corpus, labelled by known severity and by the round's annotators.

    Args:
        videos: folder, file, glob or manifest; null: the embedded procedural corpus, written to the cache.
        batch_size: pairs a step (videos a step in prediction).
        workers: processes that read clips; 0 reads in the main process.
        counts: how many pairs a round has, by the source of their label.
        later: what the rounds after the first draw and keep.
        references: what reference pairs compare, and by which metric.
        labelling: how scores become labels.
        splits: how the corpus is divided.
        drawing: how pairs and their clips are drawn.
        simulators: names of distortions and codecs (`vqa-lightning list`), or a user's own: a name, a
            function by its dotted path and levels, or a name, an encoder and levels; null: all distortions.
        teachers: who annotates round 0; null: NIQE, BRISQUE and Artefacts.
        labels: folder or URL of the teachers' scores, shared by all runs; null: in the user's cache.

    Raises:
        InputError: settings that cannot be, or that contradict each other.
    """

    def __init__(
        self,
        videos: str | None = None,
        batch_size: int = 24,
        workers: int = 0,
        counts: PairCounts = PairCounts(),  # noqa: B008 - frozen, plain values, like all settings below
        later: LaterRounds = LaterRounds(),  # noqa: B008
        references: References = References(),  # noqa: B008
        labelling: Labelling = Labelling(),  # noqa: B008
        splits: Splits = Splits(),  # noqa: B008
        drawing: Drawing = Drawing(),  # noqa: B008
        simulators: list[Codec | Distortion | str] | None = None,
        teachers: list[Annotator] | None = None,
        labels: str | None = None,
    ) -> None:
        super().__init__(videos, batch_size, workers)
        check_least("data.batch_size", batch_size, 1)
        counts.check_batches(batch_size, later)
        self.counts = counts
        self.later = later
        self.references = references
        self.labelling = labelling
        self.splits = splits
        self.drawing = drawing
        self.simulators = find_simulators(simulators)
        counts.check_families(later, self.simulators)
        known = (NIQE(), BRISQUE(), Artefacts())
        self.teachers: Sequence[Annotator] = known if teachers is None else teachers
        self.labels = LabelStore(labels or default_labels())
        self._check_sources()
        imported = drawing.imported
        self.given_pairs = (
            PAIR_SCHEMA.empty_table() if imported is None else read_pairs(imported, self.ladder)
        )
        self.sources: list[Video] = []
        """Clean videos whose versions reference pairs compare."""
        self.originals: dict[str, str] = {}
        """Source -> the video that it was made of, for sources that are not clean."""
        self.human_scores: tuple[HumanScores, ...] = ()
        self.report_mos: tuple[dict[str, float], ...] = ()
        self.cache = ClipCache(drawing.cache_mb)
        self.seen: SeenClips | None = None
        """Features of clips, where a model without trained eyes keeps them."""
        self.round = 0
        self._pairs: pa.Table | None = None
        self._done = (0, 0)  # an epoch, and how many of its batches were trained on before the run went on

    def _check_sources(self) -> None:
        """Check that every source of pairs has what its labels are made of."""
        counts, lists = self.counts, self.labelling.mos_lists
        if counts.human and not lists and self.videos is not None:
            raise InputError(
                f"data.labelling.mos must name a list for data.counts.human {counts.human}; got none: give "
                "the file with the MOS of these videos."
            )
        if lists and not counts.human:
            raise InputError(
                "data.counts.human must be 1 or more where data.labelling.mos names lists; got 0 with "
                f"{len(lists)} lists."
            )
        names = [teacher.name for teacher in self.teachers]
        for name in names:
            twice = names.count(name) > 1
            if twice or name in RESERVED_NAMES:
                taken = "is the name of two teachers" if twice else "is a column of the report"
                raise InputError(
                    f"data.teachers must have names of their own; {name!r} {taken}: give it another by "
                    "init_args.name, or take it out."
                )

    @property
    def operators(self) -> dict[str, Simulator]:
        """All that pairs may name: the simulators, and the circuits of reference pairs."""
        return {**self.simulators, CIRCUITS.name: CIRCUITS} if self.counts.reference else self.simulators

    @property
    def ladder(self) -> dict[str, int]:
        """Simulator -> number of levels above the source."""
        return {name: len(simulator.levels) for name, simulator in self.simulators.items()}

    @property
    def identity_ladder(self) -> dict[str, int]:
        """The same under the names that the label store has."""
        return {simulator.identity: len(simulator.levels) for simulator in self.simulators.values()}

    @property
    def embedded(self) -> Path | None:
        """Folder of the embedded corpus, where that is what is trained on."""
        return cache_folder() / f"embedded-{VERSION}" if self.videos is None else None

    def find_videos(self) -> str:
        """Return the given videos, or the embedded corpus."""
        return super().find_videos() if self.embedded is None else str(self.embedded / "manifest.csv")

    def prepare_data(self) -> None:
        """Write the embedded corpus once; find what is wrong with the input before a run folder is made."""
        if self.embedded is not None:
            write_corpus(self.embedded, EMBEDDED_CONTENTS)
            if self.counts.human and not self.labelling.mos:
                write_mos(self.embedded)
        stage = (
            "predict" if self.trainer is not None and self.trainer.state.fn == TrainerFn.PREDICTING else "fit"
        )
        self.setup(stage)
        for teacher in self.teachers:
            if stage == "fit" and isinstance(teacher, ScoresFile):
                teacher.match(videos(self.corpus))

    def setup(self, stage: str) -> None:
        """Probe the corpus and split it by content."""
        super().setup(stage)
        self._done = (0, 0)  # Lightning loads the state after this
        if stage == "predict":
            return
        if self.splits.duplicates and self.embedded is None:  # whose contents are known
            self.corpus = join_contents(self.corpus, find_duplicates(self.corpus))
        self.corpus = assign_splits(self.corpus, self.splits.shares, self.splits.seed)
        if self.counts.reference:
            rendered = None if self.embedded is None else self.embedded / REFERENCES
            named, folder = self.references.videos or rendered, cache_folder() / "references"
            self.sources, self.originals = find_sources(named, self.corpus, self.splits, folder)
        if self.counts.human:
            lists = self.labelling.mos_lists or [MOSList(str(Path(self.find_videos()).with_name(MOS)))]
            corpus = videos(self.corpus)
            found = [read_mos(entry, corpus) for entry in lists]
            self.human_scores, self.report_mos = zip(*found, strict=True)

    def split(self, name: str) -> list[Video]:
        """Return the readable videos of train, select or report."""
        return videos(self.corpus, name)

    @property
    def round_pairs(self) -> pa.Table:
        """The pair table of the present round.

        Raises:
            InputError: no round has begun.
        """
        if self._pairs is None:
            raise InputError("no round has begun: add callbacks.SelfImprovement to trainer.callbacks.")
        return self._pairs

    @property
    def clean(self) -> CleanVersions | None:
        """The versions of clean sources that reference pairs compare; None without such pairs."""
        if not self.counts.reference:
            return None
        teachers = [one for one in self.teachers if isinstance(one, Teacher)]
        return CleanVersions(self.references, self.sources, self.originals, self.sampling, teachers)

    def round_sizes(self, rounds: int) -> list[int]:
        """Return how many pairs each of the first rounds trains on, whatever will be hard; after `setup`."""
        imported = len(self._imported(self._trained_on()[0]))
        return [self.counts.total(round, self.later) + imported for round in range(rounds)]

    def begin_round(
        self,
        round: int,
        consensus: Consensus,
        *,
        versions: Versions | None = None,
        student: Consensus | None = None,
        defenders: Sequence[Consensus] = (),
        answers: torch.Tensor | None = None,
        lost: Collection[str] = (),
    ) -> None:
        """Draw the pair table of a round, `round_sizes` long.

        Args:
            round: its number; a later round follows on the present one.
            consensus: what its annotators found.
            versions: what full-reference scores say of distorted versions; needed for reference pairs.
            student: what the student found, who attacks and is attacked in gMAD; None: the annotators do.
            defenders: who defends there: each teacher, and the student of the round before, each on its own
                linear scale.
            answers: (pairs of the present table, 3), columns `ANSWERS`, for hard pairs of that table.
            lost: ids of videos that can no longer be read; they take part in no pair.

        Raises:
            InputError: too few videos are left to draw a kind of pairs from.
        """
        train, sources = self._trained_on(lost)
        either = [*train, *sources]
        imported = self._imported(train)
        known = consensus.restrict(train)
        seed = (self.splits.seed, round)
        kept = hard = PAIR_SCHEMA.empty_table()
        if round:
            before = self._round_before(either, answers, student or known, defenders)
            kept = relabelled(before.pairs, known, self.labelling) if before.kept else kept
            rule, drawn = self.later.hard, {one: self.counts.drawn(one, round, self.later) for one in SOURCES}
            wanted = {one: part(rule.share, count) for one, count in drawn.items()}
            each = self.counts.synthetic_drawn(round, self.later, self.simulators)
            if each is not None:
                each = {name: part(rule.share, count) for name, count in each.items()}
            hard = find_hard(rule, wanted, before, known, self.labelling, self.drawing.draws, seed, each)
        there = pa.concat_tables([kept, hard])
        missing = self._fresh_counts(round, there, len(imported))
        fresh = fresh_pairs(
            missing,
            Known(train, known, None if versions is None else versions.restrict(sources), self.human_scores),
            self.simulators,
            self.drawing,
            self.labelling,
            self.references.within,
            seed,
            self._fresh_synthetic(round, there, missing["synthetic"]),
        )
        parts = [*fresh, kept, hard, imported]
        self.resume_round(round, shuffled(parts, np.random.default_rng([*seed, len(SOURCES)])))

    def _round_before(
        self,
        train: Sequence[str],
        answers: torch.Tensor | None,
        student: Consensus,
        defenders: Sequence[Consensus],
    ) -> RoundBefore:
        again = drawn_among(self.round_pairs, train, self.given_pairs)
        of_these = None if answers is None else answers[torch.from_numpy(np.flatnonzero(again))]
        return RoundBefore(self.round_pairs.filter(again), of_these, self.later.union, student, defenders)

    def _fresh_counts(self, round: int, there: pa.Table, imported: int) -> dict[str, int]:
        """Return how many pairs of each source are still to be drawn, beside the pairs that are there."""
        have = counted(there)
        fresh = {one: self.counts.trained(one, round, self.later) - have[one] for one in SOURCES}
        # Imported pairs whose videos are gone are replaced by pairs of the most frequent source.
        most = max(SOURCES, key=self.counts.of)
        fresh[most] = max(fresh[most] + len(self._imported(self._trained_on()[0])) - imported, 0)
        return fresh

    def _fresh_synthetic(self, round: int, there: pa.Table, count: int) -> dict[str, int] | None:
        """Return how many synthetic pairs of each simulator are still to be drawn; None: all alike."""
        each = self.counts.synthetic_trained(round, self.later, self.simulators)
        if each is None:
            return None
        each -= counted_by_simulator(there)  # what is left of it is above 0
        each += Counter(shared_out(count - each.total(), self.simulators, None))
        return {name: each[name] for name in self.simulators}

    def _trained_on(self, lost: Collection[str] = ()) -> tuple[list[str], list[str]]:
        """Return the ids of the videos that are trained on, and of the clean sources of versions."""
        of_versions = [source for source in self.sources if source.split == "train"]
        videos, sources = (
            [video.video_id for video in some if video.video_id not in lost]
            for some in (self.split("train"), of_versions)
        )
        return videos, sources

    def _imported(self, train: Collection[str]) -> pa.Table:
        return self.given_pairs.filter(drawn_among(self.given_pairs, train))

    def resume_round(self, round: int, pairs: pa.Table) -> None:
        """Take up a round whose pair table was drawn before."""
        self.round = round
        self._pairs = pairs

    def state_dict(self) -> dict[str, Any]:
        """Return the present epoch, and how many of its batches have been trained on."""
        assert self.trainer is not None
        progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
        return {"epoch": self.trainer.current_epoch, "batches": progress.processed}  # type: ignore[attr-defined]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the batch after the last one that was trained on."""
        assert self.trainer is not None
        self._done = state_dict["epoch"], state_dict["batches"]
        # Sharded strategies load after an epoch's length was asked for, of a loader begun at its first batch.
        self.trainer.fit_loop._combined_loader = None
        # It asks for a loader with a state of its own.
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch")

    def _loader(
        self, pairs: pa.Table, seed: int, *, training: bool = False, done: int = 0
    ) -> DataLoader[dict[str, Any]]:
        known = {video.video_id: video for video in (*videos(self.corpus), *self.sources)}
        dataset = PairDataset(pairs, known, self.sampling, self.operators, self.cache, self.seen)
        costs = None
        if self.sampling.window is None:
            frames = {name: self.frame_cost(video) for name, video in known.items()}
            sides = zip(pairs["first"].to_pylist(), pairs["second"].to_pylist(), strict=True)
            costs = [tuple(map(add, frames[first], frames[second])) for first, second in sides]
        return pair_loader(
            dataset, self.batch_size, self.workers, seed, costs=costs, training=training, done=done
        )

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Load the round's pairs in the order of their table, with other noise in every epoch."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        done = self._done[1] if epoch == self._done[0] else 0
        seed = (self.splits.seed * 1000 + epoch) * 2**20
        return self._loader(self.round_pairs, seed, training=True, done=done)

    def _evaluation_loader(self, split: str) -> DataLoader[dict[str, Any]]:
        ids = [video.video_id for video in self.split(split)]
        seed = self.splits.seed
        return self._loader(evaluation_pairs(ids, self.ladder, self.counts.evaluation, seed), seed)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Load synthetic pairs of the select split."""
        return self._evaluation_loader("select")

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Load synthetic pairs of the report split."""
        return self._evaluation_loader("report")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Distort pairs on the device that trains."""
        return distort(batch, self.operators) if isinstance(batch, PairBatch) else batch
