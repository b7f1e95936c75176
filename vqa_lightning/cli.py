"""The command line: one LightningCLI over a RankingModule and any datamodule.

A user's mistake ends in one sentence and exit code 2, never in a traceback.
"""

from vqa_lightning.commandline.search_path import current_folder, put_last

# isort: split
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_only

from callbacks.runs import OutsideEnd, ProcessWatch, RunFolder, RunLogger, claim_run
from callbacks.runs.folder import CONFIG, run_config
from callbacks.runs.terminal import with_terminal
from callbacks.scores import BenchmarkReport, LabelWriter, ScoreWriter
from callbacks.scores.benchmark_report import FOLDER
from callbacks.scores.columns import Columns
from callbacks.scores.gate import EXIT_CODE, Gate, GateClosed
from datamodules.benchmark_data import BenchmarkDataModule
from datamodules.errors import InputError
from datamodules.round_data import RoundDataModule
from vqa_lightning.annotators.teacher_module import TeacherModule
from vqa_lightning.budget.seconds import time_ahead
from vqa_lightning.checkpoints.resuming import (
    allow_changes,
    changed_settings,
    check_checkpoint,
    check_settings,
    clear_run,
)
from vqa_lightning.checkpoints.whole import WholeCheckpointIO
from vqa_lightning.commandline.callback_settings import with_callback_settings, with_subcommand_first
from vqa_lightning.commandline.ending import ended_in_order, line_of
from vqa_lightning.commandline.mistakes import mistake, sentence, told_once
from vqa_lightning.commandline.own_settings import HELP, add_own_settings
from vqa_lightning.commandline.parser import Parser, ParserError
from vqa_lightning.commandline.raw_bytes import let_raw_bytes_pass
from vqa_lightning.commandline.streams import steady_streams
from vqa_lightning.commandline.trainer_settings import check_trainer_settings
from vqa_lightning.commandline.words import (
    names_teacher,
    run_name,
    with_checkpoint_below,
    with_known_configs,
    with_newest_run,
    with_plain_videos,
    with_shipped_scorer,
)
from vqa_lightning.commands.table import COMMANDS, run_command
from vqa_lightning.ray.engine import RayPrediction
from vqa_lightning.ray.settings import stages_of
from vqa_lightning.training import RankingModule


class RankingCLI(LightningCLI):
    """LightningCLI with a run folder for each fit, and checkpoints that fill in only what was not given.

    Args:
        args: of LightningCLI.
        again: folder of a run that died before its first checkpoint, and that is to begin again.
        line: what goes on with a run, but for its checkpoint (`commandline.ending.line_of`).
        kwargs: of LightningCLI.
    """

    def __init__(self, *args: Any, again: Path | None = None, line: str = "", **kwargs: Any) -> None:
        self.again, self.line = again, line
        super().__init__(*args, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the settings that are the command line's own."""
        add_own_settings(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the words that `main` has prepared, whatever this process was started with."""
        try:
            self.config = parser.parse_args(with_callback_settings(parser, args))
        except ParserError as error:
            named = (self._subcommand_parsers[word] for word in args if word in self._subcommand_parsers)
            error.parser = next(named, parser)
            raise

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration as it was typed: `main` has laid the checkpoint's own under it."""

    def before_instantiate_classes(self) -> None:
        """Find the run to go on with, and refuse a checkpoint that does not fit."""
        config = self.config[self.subcommand]
        check_trainer_settings(config.trainer)
        self.run = Path(config.trainer.default_root_dir or ".") / "runs" / run_name(config.config)
        self.version: str | None = None
        self.outside_end = OutsideEnd(self.run, self.line)
        self.save_config_kwargs = {"force": config.force, "begin": self.outside_end.begin}
        self.on_ray = config.engine == "ray"
        if self.on_ray and (self.subcommand != "predict" or self.model_class is TeacherModule):
            what = "--model.teacher" if self.subcommand == "predict" else self.subcommand
            raise InputError(f"--engine ray does not go with {what}: it is for predict with --ckpt_path.")
        if config.ckpt_path is not None:
            if self.model_class is TeacherModule:
                raise InputError(
                    f"--ckpt_path {config.ckpt_path} does not go with --model.teacher: "
                    "predict with the one or the other."
                )
            check_settings(check_checkpoint(Path(config.ckpt_path)), config.model)
        if self.subcommand == "fit":
            self._continue_run()
            return
        self.save_config_callback = None
        if self.subcommand == "predict":
            config.return_predictions = False  # the writer has them; a large corpus would fill the memory
        if config.ckpt_path is None and self.model_class is RankingModule:
            raise InputError(
                f"{self.subcommand} needs a trained model: give --ckpt_path RUN/checkpoints/last.ckpt."
            )

    def _continue_run(self) -> None:
        """Have a fit go on in the folder of its checkpoint, or of the run that is to begin again."""
        config = self.config[self.subcommand]
        if config.ckpt_path is not None:
            checkpoint = Path(config.ckpt_path)
            # As it was typed where that says enough: Lightning knows its folders by their names.
            folder = (checkpoint if len(checkpoint.parents) > 2 else checkpoint.resolve()).parents[1]
            if not (folder / "pairs").is_dir():
                raise InputError(
                    f"--ckpt_path must lie in a run folder; got {config.ckpt_path}: "
                    "go on with the checkpoint where fit put it."
                )
            note = f"going on with {folder}"
        elif self.again is not None:
            folder = self.again
            note = f"beginning {folder} again, which died before its first checkpoint"
        else:
            return
        self.run, self.version = folder.parent, folder.name
        rank_zero_only(print)(note, file=sys.stderr)
        rank_zero_only(claim_run)(folder)
        if config.ckpt_path is None:
            rank_zero_only(clear_run)(folder)
        elif (folder / CONFIG).is_file():
            now = self._parser(self.subcommand).dump(run_config(config), skip_none=False)
            before = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
            changes = changed_settings(before, yaml.safe_load(now))
            allow_changes(folder, changes, force=config.force)

    def instantiate_classes(self) -> None:
        """Make model, data and Trainer; on Ray no Trainer, for this machine need not be one that scores."""
        if not self.on_ray:
            super().instantiate_classes()
            return
        self.config_init = self.parser.instantiate_classes(self.config)
        self.datamodule, self.model = (self._get(self.config_init, name) for name in ("data", "model"))

    def _run_subcommand(self, subcommand: str) -> None:
        if not self.on_ray:
            super()._run_subcommand(subcommand)
            return
        config = self.config[subcommand]
        stages = stages_of(config.trainer, self.datamodule)
        self.datamodule.find_videos()
        prediction = RayPrediction(
            config.output or "scores",
            Columns(config.pool, config.calibration),
            self._gate(),
            config.report,
            progress=config.trainer.enable_progress_bar is not False,
        )
        prediction.run(self.datamodule.videos, Path(config.ckpt_path), stages, dict(self.model.hparams))

    def _gate(self) -> Gate:
        config = self.config[self.subcommand]
        return Gate(
            **{name: config[name] for name in ("fail_below", "baseline", "max_drop", "confidence", "junit")}
        )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Give every fit a folder of its own; other commands leave no trace but their output."""
        config = self.config[self.subcommand]
        if self.subcommand != "fit":
            kwargs |= {"logger": False, "enable_checkpointing": False, "callbacks": self._writers()}
        else:
            kwargs["callbacks"] = with_terminal(self._get(self.config_init, "trainer"))
            if config.trainer.logger in (None, True):
                kwargs["logger"] = RunLogger(self.run.parent, self.run.name, self.version)
        trainer = super().instantiate_trainer(**kwargs)
        # Before the callback that annotates for hours.
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        callbacks.sort(key=lambda one: not isinstance(one, RunFolder))
        callbacks.insert(0, ProcessWatch())
        callbacks.append(self.outside_end)  # behind those that note a step
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # nothing that the user has chosen
            trainer.strategy.checkpoint_io = WholeCheckpointIO()
        return trainer

    def before_fit(self) -> None:
        """Say how long it will take, where that is known, before anything is rendered or scored."""
        data, trainer = self.datamodule, self.trainer
        known = isinstance(data, RoundDataModule) and self.model.lmm_config.pretrained is None
        if not known or trainer.strategy.root_device.type != "cpu" or not trainer.max_epochs:
            return
        told = time_ahead(data, trainer.max_epochs, os.cpu_count() or 1)
        if told is not None:
            rank_zero_info(told)

    def _writers(self) -> list[Callback]:
        """Return what writes the output of a command other than fit."""
        config = self.config[self.subcommand]
        if self.subcommand == "test" and isinstance(self.datamodule, BenchmarkDataModule):
            return [BenchmarkReport(config.output or FOLDER)]
        if self.subcommand != "predict":
            return []
        output = config.output or "scores.csv"
        if self.model_class is not TeacherModule:
            return [ScoreWriter(output, config.calibration, config.pool, self._gate(), config.report)]
        if config.calibration is not None:
            raise InputError(
                f"--calibration {config.calibration} does not go with --model.teacher: "
                "a human scale is fitted to a checkpoint's scores."
            )
        for name in ("pool", "report", "fail_below", "baseline", "junit"):
            if config[name]:
                word = name.replace("_", "-")
                raise InputError(
                    f"--{word} does not go with --model.teacher: its labels are no published scores."
                )
        return [LabelWriter(output)]


def main(args: Sequence[str] | None = None) -> None:
    """Run one command.

    Args:
        args: words of the command line without the program's name; none: those of this process.

    Raises:
        SystemExit: code 2 and one sentence on stderr for a user's mistake; code 3 and a line for each file
            where scores do not hold what predict was told to hold; code 128 + N and one line where signal N
            ended the command.
    """
    let_raw_bytes_pass()
    words = list(sys.argv[1:] if args is None else args)
    with steady_streams(), ended_in_order(words):
        _run(words)


def _run(words: list[str]) -> None:
    line = line_of(words, without="--ckpt_path")
    put_last(current_folder())
    try:
        words, again = with_newest_run(with_known_configs(with_subcommand_first(words)))
        if words and words[0] in COMMANDS:
            run_command(words, Parser)
            return
        # Lightning's advertisements among its messages.
        logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
            lambda record: "Tip:" not in record.getMessage()
        )
        words = with_checkpoint_below(with_plain_videos(with_shipped_scorer(words)))
        with warnings.catch_warnings(), told_once():
            # https://github.com/Lightning-AI/pytorch-lightning/issues/21900
            warnings.filterwarnings("ignore", module="lightning.pytorch.cli", category=DeprecationWarning)
            # https://github.com/Lightning-AI/pytorch-lightning/issues/21326
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            # Other commands than fit use nothing of what a checkpoint's callbacks have kept.
            warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`, callbacks")
            RankingCLI(
                TeacherModule if names_teacher(words) else RankingModule,
                LightningDataModule,
                subclass_mode_data=True,
                again=again,
                line=line,
                save_config_callback=RunFolder,
                seed_everything_default=0,
                parser_class=Parser,
                parser_kwargs=HELP,
                auto_configure_optimizers=False,
                args=words,
            )
    except GateClosed as closed:
        print(closed, file=sys.stderr)
        raise SystemExit(EXIT_CODE) from None
    except Exception as error:
        told = mistake(error)
        if told is None:
            raise
        print(f"error: {sentence(told, words)}", file=sys.stderr)
        raise SystemExit(2) from None
