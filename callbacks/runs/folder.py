"""The run folder's own records: the settings and the videos that the run was last given.

They are written before the teachers annotate anything, so that a run that goes on can tell what has changed
before the change costs hours. Files that a killed process left unfinished are removed at the same moment.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from callbacks.runs.logger import claim_run
from datamodules.files import remove_unfinished, written_whole
from datamodules.round_data import RoundDataModule
from vqa_lightning.checkpoints.resuming import allow_changes, changed_videos, known_videos

CONFIG = "config.yaml"

VIDEOS = "videos.parquet"

WRITTEN = (
    *("config.yaml", "videos.parquet", "rounds.csv", "teachers.csv", "pairs/round-*.parquet"),
    *("checkpoints/*.ckpt", "weights/*.ckpt", "labels/writable.*", "labels/round=*/annotator=*/part-*"),
)
"""Files of a run folder that are written whole. Without a logger the folder holds the user's files too."""


class RunFolder(SaveConfigCallback):
    """Writes `config.yaml` and `videos.parquet`; it must stand before the callback that annotates.

    Args:
        parser: of the command line.
        config: what it was given.
        force: whether a run goes on although its videos have changed.
        begin: called when the folder is this run's.
    """

    def __init__(
        self,
        parser: LightningArgumentParser,
        config: Namespace,
        force: bool,
        begin: Callable[[Trainer], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(parser, config, **kwargs)
        self.force, self.begin = force, begin

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare the videos with those of the run, clear what is unfinished, and write.

        Raises:
            InputError: the videos are not those that the run began with, and `--force` was not given; or the
                folder cannot be written to.
        """
        folder = Path(trainer.log_dir or ".")
        if trainer.is_global_zero:
            claim_run(folder)
        self.begin(trainer)
        data = trainer.datamodule  # type: ignore[attr-defined]
        videos = known_videos(data.corpus) if isinstance(data, RoundDataModule) else None
        goes_on = self.config.ckpt_path is not None  # the Trainer does not know yet
        if goes_on and videos is not None and (folder / VIDEOS).is_file():
            changes = changed_videos(pq.read_table(folder / VIDEOS), videos)
            allow_changes(folder, changes, force=self.force)
        trainer.strategy.barrier()
        if not trainer.is_global_zero:
            return
        remove_unfinished(folder, WRITTEN)
        with written_whole(folder / CONFIG) as hidden:
            hidden.write_text(self.parser.dump(run_config(self.config), skip_none=False), encoding="utf-8")
        if videos is not None:
            with written_whole(folder / VIDEOS) as hidden:
                pq.write_table(videos, hidden)


def run_config(config: Namespace) -> Namespace:
    """Return a fit's configuration without what holds for one command: a new run may be begun with it."""
    kept = config.clone()
    kept.ckpt_path, kept.force = None, False
    return kept
