"""From a dataset of paths to a dataset of scores, as two stages of one streaming pipeline of Ray Data.

Tasks on any CPU read clips ahead of the actors that hold the model, so that an accelerator does not wait for
decoding. What a killed worker had in its hands, Ray gives to another.
"""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.checks import check_least
from datamodules.errors import InputError
from vqa_lightning.checkpoints.scorer_file import SHIPPED
from vqa_lightning.ray.sent_model import SentModel
from vqa_lightning.ray.stages import ClipReader, ClipScorer

if TYPE_CHECKING:
    from ray.data import Dataset


def require_ray() -> None:
    """Refuse to go on without the package.

    Raises:
        InputError: Ray Data is not installed.
    """
    if find_spec("ray") is None or find_spec("ray.data") is None:
        raise InputError("Ray Data is not installed: pip install 'vqa-lightning[ray]'.")


@dataclass(frozen=True)
class Stages:
    """How the two stages are laid over a cluster; `score` says what each setting is.

    Raises:
        InputError: a number is too small.
    """

    score_every: float | None = None
    batch_size: int = 8
    readers: int | None = None
    scorers: int | None = None
    gpus: float | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("batch_size", "readers", "scorers"):
            if (value := getattr(self, name)) is not None:
                check_least(name, value, 1)

    def apply(self, paths: "Dataset", model: SentModel, *, counted: bool = False) -> "Dataset":
        """Return the rows of all requests; counted: with the column REQUESTS."""
        import ray

        has = ray.cluster_resources()
        gpus = float(has.get("GPU", 0) > 0) if self.gpus is None else self.gpus
        cores = int(has.get("CPU", 1))
        most = self.scorers or max(1, int(has.get("GPU", 1) / gpus) if gpus else cores - 1)
        few = 1 if model.sampling.window is None else self.batch_size
        reader = ClipReader(model.sampling, model.draws, self.score_every, few, os.getcwd())
        # A map of one row to several is not fused with the next stage: reading and scoring stay apart.
        clips = paths.flat_map(reader, num_cpus=1, compute=ray.data.TaskPoolStrategy(self.readers))
        return clips.map_batches(
            ClipScorer,
            fn_constructor_args=(ray.put(model), "cuda" if gpus else "cpu", counted),
            batch_size=few,
            compute=ray.data.ActorPoolStrategy(min_size=self.scorers or 1, max_size=most),
            num_gpus=gpus,
            num_cpus=1 if cores > 1 else 0,  # a single core is left to the tasks, which would wait for ever
        )


def score(
    dataset: "Dataset",
    checkpoint: str | Path = SHIPPED,
    *,
    score_every: float | None = None,
    batch_size: int = 8,
    readers: int | None = None,
    scorers: int | None = None,
    gpus: float | None = None,
) -> "Dataset":
    """Score the videos of a dataset; nothing runs before the scores are asked for.

    The scores are those of `predict`, to the bit on the same hardware.

    Args:
        dataset: with a column `path`: local files that every machine sees, or URLs that fsspec knows. A task
            reads a block, so that many small blocks are shared out better than a few large ones.
        checkpoint: a .ckpt that fit wrote, or a scorer, on this machine; by default the package's scorer.
        score_every: seconds; each interval of this length of every video is scored, too.
        batch_size: videos or intervals that an actor gets at a time; of whole frames one.
        readers: most tasks that read at a time; None: as many as there are cores to spare.
        scorers: actors that score; None: as many as are kept busy, at most one a GPU, or one a core but one.
        gpus: of each actor; None: 1 where the cluster has any, else 0.

    Returns:
        A dataset with predict's columns `path`, `score`, `stderr`, `status`, `error`, `model` and
        `percentile`, and `start` and `end` of an interval, null for the whole video; in no order.

    Raises:
        InputError: Ray is not installed, or the checkpoint cannot be read.

    Example:
        >>> import ray  # doctest: +SKIP
        >>> manifest = ray.data.read_parquet("s3://bucket/manifest.parquet")  # doctest: +SKIP
        >>> scores = score(manifest)  # doctest: +SKIP
        >>> scores.write_parquet("s3://bucket/scores")  # doctest: +SKIP
    """
    require_ray()
    model, _ = SentModel.pack(Path(checkpoint))
    return Stages(score_every, batch_size, readers, scorers, gpus).apply(dataset, model)
