"""Labelled pairs for training: the round's pair table, read in workers and distorted on the device.

Nothing here decides when a round ends. `SelfImprovement` annotates the corpus and calls `begin_round` with
what the annotators found; pairs then follow from (seed, round) and the loaders are made anew each epoch.
"""

import warnings
from collections.abc import Collection, Sequence
from itertools import compress
from operator import add
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from datamodules.batches import PairBatch, PairDataset
from datamodules.batches.clip_cache import ClipCache
from datamodules.batches.device import distort
from datamodules.batches.pair_loader import pair_loader
from datamodules.codecs import Codec
from datamodules.corpus import assign_splits, find_duplicates, join_contents, videos
from datamodules.distortions import Distortion
from datamodules.files import cache_folder
from datamodules.labels import Annotator, Consensus, LabelStore, Request, Versions
from datamodules.labels.consensus import versions_among
from datamodules.labels.human_labels import HumanScores, MOSList, read_mos, scores_among
from datamodules.labels.label_store import default_labels
from datamodules.labels.reference_labels import drawn_ladders, eligible, reference_versions
from datamodules.pairs import PAIR_SCHEMA, SOURCES, read_pairs
from datamodules.pairs.drawing import draw_pairs
from datamodules.pairs.growth import Growth, counts, drawn_among
from datamodules.pairs.hard import Hardness, Rule, find_hard
from datamodules.pairs.human import draw_human_pairs
from datamodules.pairs.relabelling import relabelled
from datamodules.procedural import MOS, write_corpus, write_mos
from datamodules.simulators import bases, find_simulators
from datamodules.teachers.artefacts import Artefacts
from datamodules.teachers.full_reference import FullReference, Metric
from datamodules.teachers.niqe import NIQE
from datamodules.teachers.scores_file import ScoresFile
from datamodules.video import Video
from datamodules.video_data import VideoDataModule
from vqa_lightning.families import InputError

EMBEDDED_CONTENTS = 128

RESERVED_NAMES = ("student", "ensemble", "laplacian")
"""Columns of the report that no teacher may have."""


class RoundDataModule(VideoDataModule):
    """Pairs of one corpus, labelled by known severity and by the round's annotators.

    Args:
        videos: folder, file, glob or manifest; none: the embedded procedural corpus, written once to the
            cache.
        batch_size: pairs a step (videos a step in prediction).
        synthetic_pairs: pairs a round of one source under two severities of a simulator.
        teacher_pairs: pairs a round of different videos, labelled by the teachers and later by the student.
        reference_pairs: pairs a round of distorted versions of different videos, labelled by how far
            full-reference scores put either below its source; 0 needs no such scores.
        reference_ladders: simulators whose versions of a training video get such scores; none: all.
        human_pairs: pairs a round of different videos, labelled by their MOS; 0 reads no human label.
        mos: lists of MOS: paths, or a path with more settings (`MOSList`); none: that of simulated observers
            of the embedded corpus. Pairs are drawn within a list and from the train split. Videos without a
            MOS still serve the other kinds of pairs.
        composed: share of the synthetic pairs of compression and transmission that are given one more
            distortion under both sides, at a random level.
        later_pairs: source (synthetic, teacher, reference, human) -> share of the first round's pairs of that
            source that each later round draws anew; 1 where nothing is given.
        union: whether a round also trains on the pairs of all rounds before, those labelled by the annotators
            labelled anew; else on its own only.
        hard_share: of the synthetic and of the teacher pairs that later rounds draw anew, at most so many are
            hard ones.
        hard: which these are: gmad, the synthetic ones that the student got wrong and the pairs of videos on
            which it and a teacher or its predecessor disagree most; or pairs of the round before by a simpler
            rule: the highest loss, the lowest confidence, random ones.
        hard_bins: quality bins of equally many videos within which gmad looks for pairs.
        hard_gap: how far apart the side that defends itself in gmad may score the videos of a pair, in
            standard deviations of its scores; none: any two of a bin.
        evaluation_pairs: synthetic pairs on each of the select and the report split, the same in every round.
        pairs: Parquet of pairs that are added to every round, as `vqa-lightning pairs import` writes it
            from a released list; those whose videos are not both in the train split are left out.
        simulators: names of distortions and codecs (`vqa-lightning list`), or a user's own: a name, a
            function by its dotted path and levels, or a name, an encoder and levels; none: all distortions.
        teachers: who annotates round 0; none: NIQE and Artefacts.
        teacher_weights: agreement: by how well each follows the known order of severities on the select
            split; equal: as in the paper.
        labels: folder or URL of the teachers' scores, shared by all runs; none: in the user's cache.
        blur: of labels from scores, in standard deviations of the difference.
        min_confidence: pairs labelled by the round's annotator whose likeliest level has less than this
            probability are not drawn, and not kept where a later round labels them anew.
        label_smoothing: weight of the uniform distribution in labels from scores whose annotators disagree
            without bound; times `Consensus.doubt` it is a pair's.
        draws: different clips (times and windows) of each video that pairs are drawn from.
        shares: of the contents that go to train, select and report.
        duplicates: find videos that show the same pictures, and take them as one content.
        seed: of splits and pairs.
        workers: processes that read clips; 0 reads in the main process.
        cache_mb: megabytes of clips each reading process keeps from one epoch to the next.
    """

    def __init__(
        self,
        videos: str | None = None,
        batch_size: int = 24,
        synthetic_pairs: int = 2400,
        teacher_pairs: int = 1200,
        reference_pairs: int = 0,
        reference_ladders: int | None = 4,
        human_pairs: int = 0,
        mos: list[MOSList | str] | None = None,
        composed: float = 0.0,
        later_pairs: dict[str, float] | None = None,
        union: bool = False,
        hard_share: float = 0.1,
        hard: Rule = "gmad",
        hard_bins: int = 5,
        hard_gap: float | None = None,
        evaluation_pairs: int = 480,
        pairs: str | None = None,
        simulators: list[Codec | Distortion | str] | None = None,
        teachers: list[Annotator] | None = None,
        teacher_weights: Literal["agreement", "equal"] = "agreement",
        labels: str | None = None,
        blur: float = 0.5,
        min_confidence: float = 0.0,
        label_smoothing: float = 0.0,
        draws: int = 8,
        shares: tuple[float, float, float] = (0.5, 0.17, 0.33),
        duplicates: bool = True,
        seed: int = 0,
        workers: int = 0,
        cache_mb: int = 512,
    ) -> None:
        super().__init__(videos, batch_size, workers)
        wanted = (synthetic_pairs, teacher_pairs, reference_pairs, human_pairs)
        self.growth = Growth(dict(zip(SOURCES, wanted, strict=True)), later_pairs or {}, union)
        self.growth.require(batch_size)
        shared = {"composed": composed, "min_confidence": min_confidence}
        for name, share in shared.items():
            if not 0 <= share <= 1:
                raise InputError(f"data.{name} is {share}: give a number from 0 to 1.")
        if not 0 <= label_smoothing < 1:
            raise InputError(f"data.label_smoothing is {label_smoothing}: give a number from 0 to below 1.")
        least = {"evaluation_pairs": (evaluation_pairs, 1), "draws": (draws, 1), "blur": (blur, 0)}
        least |= {f"{source}_pairs": (number, 0) for source, number in self.growth.first.items()}
        least |= {"batch_size": (batch_size, 1)}
        if reference_ladders is not None:
            least["reference_ladders"] = (reference_ladders, 1)
        for name, (value, lowest) in least.items():
            if not value >= lowest:
                raise InputError(f"data.{name} is {value}: give {lowest} or more.")
        self.simulators = find_simulators(simulators)
        if reference_pairs and not eligible(self.simulators):
            raise InputError(
                f"data.reference_pairs is {reference_pairs}, but none of data.simulators "
                f"({', '.join(self.simulators)}) leaves pixels in place: add one of the families sharpness, "
                "noise, tone or compression."
            )
        if human_pairs and not mos and videos is not None:
            raise InputError(
                f"data.human_pairs is {human_pairs}, but data.mos names no list: give the file with the MOS "
                "of these videos."
            )
        if mos and not human_pairs:
            raise InputError(
                f"data.mos names {len(mos)} lists, but data.human_pairs is 0: say how many pairs a round are "
                "to be labelled by them."
            )
        self.given_pairs = PAIR_SCHEMA.empty_table() if pairs is None else read_pairs(pairs, self.ladder)
        self.synthetic_pairs = synthetic_pairs
        self.teacher_pairs = teacher_pairs
        self.reference_pairs = reference_pairs
        self.reference_ladders = reference_ladders
        self.human_pairs = human_pairs
        self.mos = [MOSList(entry) if isinstance(entry, str) else entry for entry in mos or ()]
        self.human_scores: tuple[HumanScores, ...] = ()
        self.report_mos: tuple[dict[str, float], ...] = ()
        self.composed = composed
        self.hardness = Hardness(hard_share, hard, hard_bins, hard_gap)
        self.evaluation_pairs = evaluation_pairs
        self.teachers: Sequence[Annotator] = [NIQE(), Artefacts()] if teachers is None else teachers
        names = [teacher.name for teacher in self.teachers]
        for name in names:
            if names.count(name) > 1 or name in RESERVED_NAMES:
                taken = "names two teachers" if names.count(name) > 1 else "is a column of the report"
                raise InputError(
                    f"data.teachers: {name!r} {taken}; give it another by init_args.name, or take it out."
                )
        self.teacher_weights = teacher_weights
        # Small windows, for every version of every training video is compared.
        metrics: tuple[Metric, ...] = ("ssim", "gmsd") if reference_pairs else ()
        self.references = [FullReference(metric, segments=2, window=128) for metric in metrics]
        self.labels = LabelStore(labels or default_labels())
        self.blur = blur
        self.min_confidence = min_confidence
        self.label_smoothing = label_smoothing
        self.draws = draws
        self.shares = shares
        self.duplicates = duplicates
        self.seed = seed
        self.cache = ClipCache(cache_mb)
        self.round = 0
        self._pairs: pa.Table | None = None
        self._done = (0, 0)  # an epoch, and how many of its batches were trained on before the run went on

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
        return cache_folder() / "embedded" if self.videos is None else None

    def find_videos(self) -> Path:
        """The given videos, or the embedded corpus."""
        return super().find_videos() if self.embedded is None else self.embedded / "manifest.csv"

    def prepare_data(self) -> None:
        """Writes the embedded corpus once; finds what is wrong with the input before a run folder is made."""
        if self.embedded is not None:
            write_corpus(self.embedded, EMBEDDED_CONTENTS)
            if self.human_pairs and not self.mos:
                write_mos(self.embedded)
        stage = (
            "predict" if self.trainer is not None and self.trainer.state.fn == TrainerFn.PREDICTING else "fit"
        )
        self.setup(stage)
        for teacher in self.teachers:
            if stage == "fit" and isinstance(teacher, ScoresFile):
                teacher.match(videos(self.corpus))

    def setup(self, stage: str) -> None:
        """Probes the corpus and splits it by content."""
        super().setup(stage)
        self._done = (0, 0)  # Lightning loads the state after this
        if stage == "predict":
            return
        if self.duplicates and self.embedded is None:  # whose contents are known
            self.corpus = join_contents(self.corpus, find_duplicates(self.corpus))
        self.corpus = assign_splits(self.corpus, self.shares, self.seed)
        if self.human_pairs:
            lists = self.mos or [MOSList(str(self.find_videos().with_name(MOS)))]
            corpus = videos(self.corpus)
            self.human_scores, self.report_mos = zip(
                *(read_mos(entry, corpus) for entry in lists), strict=True
            )

    def split(self, name: str) -> list[Video]:
        """Readable videos of train, select or report."""
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

    def reference_requests(self) -> list[Request]:
        """The training videos and those of their versions that full-reference scores compare."""
        train = self.split("train")
        drawn = drawn_ladders([video.video_id for video in train], self.simulators, self.reference_ladders)
        return [Request(video) for video in train] + [
            Request(video, simulator, level + 1)
            for video, ladders in zip(train, drawn, strict=True)
            for simulator in compress(eligible(self.simulators).values(), ladders)
            for level in range(len(simulator.levels))
        ]

    def reference_versions(self, table: pa.Table, consensus: Consensus) -> Versions | None:
        """What the full-reference scores in the table say of those versions; None without reference pairs.

        How good their sources are is the teachers' to say where they label pairs, else nobody's.

        Args:
            table: round 0 of the label store.
            consensus: what the teachers found.
        """
        if not self.references:
            return None
        train = [video.video_id for video in self.split("train")]
        metrics = [metric.fingerprint for metric in self.references]
        sources = consensus if self.teacher_pairs else None
        # The store is shared: what other runs left there must not move this run's ranks.
        table = table.filter(pc.is_in(table["video_id"], pa.array(train, pa.string())))
        return reference_versions(
            table, train, self.simulators, metrics, ladders=self.reference_ladders, sources=sources
        )

    def round_sizes(self, rounds: int) -> list[int]:
        """How many pairs each of the first rounds trains on, whatever will be found hard; after `setup`."""
        imported = len(self._imported(self._train()))
        return [self.growth.total(round) + imported for round in range(rounds)]

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
        """Draws the pair table of a round, `round_sizes` long.

        Args:
            round: its number; a later one follows on the present one.
            consensus: what its annotators found.
            versions: what full-reference scores say of distorted versions; needed for reference pairs.
            student: what the student found, who attacks and is attacked in gMAD; None: the annotators do.
            defenders: on the other side: each teacher, and the student of the round before; each on its own
                linear scale.
            answers: (pairs of the present table, 3), columns `hard_pairs.ANSWERS`, for hard pairs of them.
            lost: ids of videos that can no longer be read; they take part in no pair.

        Raises:
            InputError: too few videos are left to draw a kind of pairs from.
        """
        train = self._train(lost)
        imported = self._imported(train)
        known = consensus.restrict(train)
        kept = hard = PAIR_SCHEMA.empty_table()
        if round:
            again = drawn_among(self.round_pairs, train, self.given_pairs)
            before = self.round_pairs.filter(again)
            if self.growth.union:
                kept = relabelled(before, known, self.blur, self.label_smoothing, self.min_confidence)
            hard = find_hard(
                self.hardness,
                {source: self.growth.drawn(round, source) for source in SOURCES},
                before,
                None if answers is None else answers[torch.from_numpy(np.flatnonzero(again))],
                known,
                student or known,
                defenders,
                kept,
                (self.seed, round),
                draws=self.draws,
                blur=self.blur,
                smoothing=self.label_smoothing,
                min_confidence=self.min_confidence,
            )
        there = counts(pa.concat_tables([kept, hard]))
        fresh = {source: self.growth.size(round, source) - there[source] for source in SOURCES}
        # What is gone of the imported pairs is made up by those of which there are most, until it is back.
        most = max(self.growth.first, key=self.growth.first.__getitem__)
        fresh[most] = max(fresh[most] + len(self._imported(self._train())) - len(imported), 0)
        human = PAIR_SCHEMA.empty_table()
        if fresh["human"]:
            generator = np.random.default_rng([self.seed, round, 2])
            lists = scores_among(self.human_scores, train)
            human = draw_human_pairs(lists, fresh["human"], generator, self.draws)
        self.round = round
        self._pairs = draw_pairs(
            train,
            self.ladder,
            seed=self.seed,
            round=round,
            synthetic=fresh["synthetic"],
            teacher=fresh["teacher"],
            reference=fresh["reference"],
            others=pa.concat_tables([kept, hard, imported, human]),
            consensus=known,
            versions=None if versions is None else versions_among(versions, train),
            bases=bases(self.simulators),
            composed=self.composed,
            draws=self.draws,
            blur=self.blur,
            min_confidence=self.min_confidence,
            smoothing=self.label_smoothing,
        )

    def _train(self, lost: Collection[str] = ()) -> list[str]:
        return [video.video_id for video in self.split("train") if video.video_id not in lost]

    def _imported(self, train: Collection[str]) -> pa.Table:
        return self.given_pairs.filter(drawn_among(self.given_pairs, train, PAIR_SCHEMA.empty_table()))

    def resume_round(self, round: int, pairs: pa.Table) -> None:
        """Takes up a round whose pair table was drawn before."""
        self.round = round
        self._pairs = pairs

    def state_dict(self) -> dict[str, Any]:
        """The present epoch, and how many of its batches have been trained on."""
        assert self.trainer is not None
        progress = self.trainer.fit_loop.epoch_loop.batch_progress.current
        return {"epoch": self.trainer.current_epoch, "batches": progress.processed}  # type: ignore[attr-defined]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on with the batch after the last one that was trained on."""
        assert self.trainer is not None
        self._done = state_dict["epoch"], state_dict["batches"]
        # Sharded strategies load after an epoch's length was asked for, of a loader begun at its first batch.
        self.trainer.fit_loop._combined_loader = None
        # It asks for a loader with a state of its own.
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch")

    def _loader(
        self, pairs: pa.Table, seed: int, *, training: bool = False, done: int = 0
    ) -> DataLoader[dict[str, Any]]:
        known = {video.video_id: video for video in videos(self.corpus)}
        dataset = PairDataset(pairs, known, self.sampling, self.simulators, self.cache)
        costs = None
        if self.sampling.window is None:
            frames = {name: self.frame_cost(video) for name, video in known.items()}
            sides = zip(pairs["first"].to_pylist(), pairs["second"].to_pylist(), strict=True)
            costs = [tuple(map(add, frames[first], frames[second])) for first, second in sides]
        return pair_loader(
            dataset, self.batch_size, self.workers, seed, costs=costs, training=training, done=done
        )

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The round's pairs in the order of their table, with other noise in every epoch."""
        epoch = self.trainer.current_epoch if self.trainer is not None else 0
        done = self._done[1] if epoch == self._done[0] else 0
        seed = (self.seed * 1000 + epoch) * 2**20
        return self._loader(self.round_pairs, seed, training=True, done=done)

    def _evaluation_loader(self, split: str) -> DataLoader[dict[str, Any]]:
        ids = [video.video_id for video in self.split(split)]
        pairs = draw_pairs(ids, self.ladder, seed=self.seed, round=0, synthetic=self.evaluation_pairs)
        return self._loader(pairs, seed=self.seed)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Synthetic pairs of the select split."""
        return self._evaluation_loader("select")

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Synthetic pairs of the report split."""
        return self._evaluation_loader("report")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Distorts pairs on the device that trains."""
        return distort(batch, self.simulators) if isinstance(batch, PairBatch) else batch
