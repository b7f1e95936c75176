"""The command line: one LightningCLI over a RankingModule and any datamodule.

What a person types wins over what a checkpoint remembers, and a checkpoint fills in what nobody typed. A
user's mistake ends in one sentence and exit code 2, never in a traceback.
"""

import errno
import json
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NoReturn

_PACKAGES = ("callbacks", "datamodules")


@cache
def _put_last(here: Path) -> None:
    """Puts the current folder behind the installed packages on the search path.

    `python -m` searches it first, and a console script not at all: a user's own modules must be found, but a
    folder of theirs named as one of our packages must not hide it.
    """
    ours = Path(__file__).resolve().parents[1]
    if here == ours:
        return
    sys.path[:] = [*(entry for entry in sys.path if Path(entry or ".").resolve() != here), str(here)]
    shadows = [name for name in _PACKAGES if (here / name).exists() or (here / f"{name}.py").exists()]
    if shadows:
        print(
            f"note: the current folder has its own {' and '.join(shadows)}; "
            "vqa-lightning uses its own of that name.",
            file=sys.stderr,
        )


_put_last(Path.cwd().resolve())

# Nothing of ours, and nothing that a user's folder might hide, may be imported before the search path is in
# order.
import yaml  # type: ignore[import-untyped]  # noqa: E402
from jsonargparse import Namespace  # noqa: E402
from lightning.fabric.plugins import TorchCheckpointIO  # noqa: E402
from lightning.fabric.utilities.exceptions import MisconfigurationException  # noqa: E402
from lightning.pytorch import Callback, LightningDataModule, Trainer  # noqa: E402
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI  # noqa: E402
from lightning.pytorch.loggers import TensorBoardLogger  # noqa: E402
from lightning_utilities.core.rank_zero import rank_zero_only  # noqa: E402

from callbacks.runs import (  # noqa: E402
    ProcessWatch,
    RunFolder,
)
from callbacks.runs.folder import run_config  # noqa: E402
from callbacks.scores import (  # noqa: E402
    BenchmarkReport,
    LabelWriter,
    ScoreWriter,
)
from callbacks.scores.benchmark_report import FOLDER  # noqa: E402
from datamodules.benchmark_data import BenchmarkDataModule  # noqa: E402
from datamodules.errors import UnreadableVideo  # noqa: E402
from vqa_lightning.annotators.teacher_module import TeacherModule  # noqa: E402
from vqa_lightning.checkpoints.resuming import (  # noqa: E402
    allow_changes,
    changed_settings,
    check_checkpoint,
    check_settings,
    clear_run,
    newest_run,
)
from vqa_lightning.checkpoints.whole import WholeCheckpointIO  # noqa: E402
from vqa_lightning.commands.listing import shipped_configs  # noqa: E402
from vqa_lightning.commands.table import COMMANDS, run_command  # noqa: E402
from vqa_lightning.families import InputError  # noqa: E402
from vqa_lightning.training import RankingModule  # noqa: E402

KEPT = ("lmm", "sampling", "trained", "judgements", "score_by", "loss")
"""Settings of the model that a fit takes from the checkpoint whose weights it begins with."""

SUBCOMMANDS = ("fit", "validate", "test", "predict")

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_RIGHT = (errno.EROFS, errno.EACCES, errno.EPERM)


class _Parser(LightningArgumentParser):
    """Ends a mistake in the configuration with one sentence instead of the whole usage."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises the innermost of jsonargparse's nested complaints."""
        lines = [line for line in message.splitlines() if line.strip()]
        deepest = max(lines, key=lambda line: len(line) - len(line.lstrip()))
        sentence = re.sub(r"^[\s-]+", "", deepest).rstrip(".:")
        raise InputError(
            f"{sentence}: see --help, or --data.help and --print_config, for what there is."
        ) from ex


class RankingCLI(LightningCLI):
    """LightningCLI with a run folder for each fit, and checkpoints that fill in only what was not given.

    Args:
        again: folder of a run that died before its first checkpoint, and that is to begin again.
        args: of LightningCLI.
        kwargs: of LightningCLI.
    """

    def __init__(self, *args: Any, again: Path | None = None, **kwargs: Any) -> None:
        self.again = again
        super().__init__(*args, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Makes pairs of rounds the data unless another class is named."""
        parser.set_defaults({"data": {"class_path": "datamodules.RoundDataModule"}})
        parser.add_argument(
            "--output",
            type=str | None,
            default=None,
            help="Where predict writes its rows, .csv, .jsonl or .parquet (null: scores.csv), and test the "
            f"folder of its report on benchmarks (null: {FOLDER}).",
        )
        parser.add_argument(
            "--calibration",
            type=str | None,
            default=None,
            help="A human scale that was fitted to this model's scores: predict adds the column calibrated.",
        )
        parser.add_argument(
            "--force",
            action="store_true",
            help="fit --ckpt_path goes on although settings or videos are not those that the run began with.",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the words that `main` has prepared, whatever this process was started with."""
        self.config = parser.parse_args(args)

    def _parse_ckpt_path(self) -> None:
        """Leaves the configuration as it was typed: `main` has laid the checkpoint's own under it."""

    def before_instantiate_classes(self) -> None:
        """Finds the run to go on with, and refuses a checkpoint that does not fit."""
        config = self.config[self.subcommand]
        self.run = Path(config.trainer.default_root_dir or ".") / "runs" / _run_name(config.config)
        self.version: str | None = None
        if config.ckpt_path is not None and self.model_class is TeacherModule:
            raise InputError(
                f"--ckpt_path {config.ckpt_path} does not go with --model.teacher: "
                "predict with the one or the other."
            )
        if config.ckpt_path is not None:
            check_settings(check_checkpoint(Path(config.ckpt_path)), config.model)
        if self.subcommand != "fit":
            self.save_config_callback = None
            if self.subcommand == "predict":
                config.return_predictions = False  # the writer has them; a large corpus would fill the memory
            if config.ckpt_path is None and self.model_class is RankingModule:
                teacher = ", or --model.teacher CLASS" if self.subcommand == "predict" else ""
                raise InputError(
                    f"{self.subcommand} needs a trained model: "
                    f"give --ckpt_path RUN/checkpoints/last.ckpt{teacher}."
                )
        elif config.ckpt_path is not None:
            checkpoint = Path(config.ckpt_path)
            # As it was typed where that says enough: Lightning knows its folders by their names.
            folder = (checkpoint if len(checkpoint.parents) > 2 else checkpoint.resolve()).parents[1]
            if not (folder / "pairs").is_dir():
                raise InputError(
                    f"--ckpt_path {config.ckpt_path} lies in no run folder: "
                    "go on with the checkpoint where fit put it."
                )
            self._continue(folder, f"going on with {folder}")
            self._allow_settings(folder / "config.yaml", config)
        elif self.again is not None:
            self._continue(
                self.again, f"beginning {self.again} again, which died before its first checkpoint"
            )
            rank_zero_only(clear_run)(self.again)
        self.save_config_kwargs = {"force": config.force}

    def _continue(self, folder: Path, note: str) -> None:
        self.run, self.version = folder.parent, folder.name
        rank_zero_only(print)(note, file=sys.stderr)

    def _allow_settings(self, begun: Path, config: Namespace) -> None:
        """Refuses other settings than those the run was begun with, but for those that are free."""
        if begun.is_file():
            dumped = self._parser(self.subcommand).dump(run_config(config), skip_none=False)
            changes = changed_settings(yaml.safe_load(begun.read_text()), yaml.safe_load(dumped))
            allow_changes(begun.parent, changes, force=config.force)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Gives every fit a folder of its own; other commands leave no trace but their output."""
        config = self.config[self.subcommand]
        if self.subcommand != "fit":
            kwargs["logger"] = False
            kwargs["enable_checkpointing"] = False
            kwargs["callbacks"] = []
            if self.subcommand == "predict" and self.model_class is TeacherModule:
                if config.calibration is not None:
                    raise InputError(
                        f"--calibration {config.calibration} does not go with --model.teacher: a human "
                        "scale is fitted to a checkpoint's scores."
                    )
                kwargs["callbacks"] = [LabelWriter(config.output or "scores.csv")]
            elif self.subcommand == "predict":
                kwargs["callbacks"] = [ScoreWriter(config.output or "scores.csv", config.calibration)]
            elif self.subcommand == "test" and isinstance(self.datamodule, BenchmarkDataModule):
                kwargs["callbacks"] = [BenchmarkReport(config.output or FOLDER)]
        elif config.trainer.logger in (None, True):
            kwargs["logger"] = TensorBoardLogger(self.run.parent, name=self.run.name, version=self.version)
        trainer = super().instantiate_trainer(**kwargs)
        # Before the callback that annotates for hours.
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        callbacks.sort(key=lambda one: not isinstance(one, RunFolder))
        callbacks.insert(0, ProcessWatch())
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # nothing that the user has chosen
            trainer.strategy.checkpoint_io = WholeCheckpointIO()
        return trainer


def _run_name(configs: Sequence[Any] | None) -> str:
    """The stem of the first config that is a file; `run` where everything was typed."""
    files = [str(config) for config in configs or () if config is not None]
    return Path(files[0]).stem if files else "run"


def _with_known_configs(args: Sequence[str]) -> list[str]:
    """Replaces bare names of shipped configs by their paths."""
    shipped = shipped_configs()
    found = []
    for place, word in enumerate(args):
        flag, joined, value = word.partition("=")
        if joined and flag in ("--config", "-c"):
            word = f"{flag}={_known(value, shipped)}"
        elif place and args[place - 1] in ("--config", "-c"):
            word = _known(word, shipped)
        found.append(word)
    return found


def _known(name: str, shipped: dict[str, Path]) -> str:
    if name.lstrip().startswith("{") or Path(name).is_file():
        return name
    if name in shipped:
        return str(shipped[name])
    raise InputError(
        f"--config {name} is neither a file nor a shipped config ({', '.join(shipped)}): check the name."
    )


def _with_newest_run(args: list[str]) -> tuple[list[str], Path | None]:
    """Replaces `--ckpt_path last` by the last checkpoint of the newest run named as the first config is.

    Returns:
        The words, and the folder of that run if it is to begin again, having none.
    """
    joined = ("--ckpt_path=", "--config=", "-c=", "--trainer.default_root_dir=")
    words = [part for word in args for part in (word.split("=", 1) if word.startswith(joined) else [word])]
    following = list(pairwise(words))
    if ("--ckpt_path", "last") not in following:
        return args, None
    configs = [value for flag, value in following if flag in ("--config", "-c")]
    roots = [value for flag, value in following if flag == "--trainer.default_root_dir"] or ["."]
    folder = newest_run(Path(roots[-1]) / "runs" / _run_name(configs))
    checkpoint = folder / "checkpoints" / "last.ckpt"
    place = following.index(("--ckpt_path", "last"))
    if args[0] == "fit" and not checkpoint.is_file():
        return [*words[:place], *words[place + 2 :]], folder
    return [*words[: place + 1], str(checkpoint), *words[place + 2 :]], None


def _with_checkpoint_below(args: list[str]) -> list[str]:
    """Lays a checkpoint's hyper-parameters under everything typed.

    All of them for the commands that only use a model; for a fit that begins with a checkpoint's weights
    those without which the weights would mean something else.
    """
    if not args or args[0] not in SUBCOMMANDS or names_teacher(args):
        return args
    words = dict(pairwise(args))
    words |= {flag: value for flag, joined, value in (word.partition("=") for word in args) if joined}
    setting, given = "--ckpt_path", words.get("--ckpt_path")
    if args[0] == "fit":
        first = words.get("--model.init_from", _configured(args).get("init_from"))
        if first is None or given is None:
            setting, given = "--model.init_from", first
    if given is None:
        return args
    remembered = dict(check_checkpoint(Path(given), setting)["hyper_parameters"])
    remembered.pop("_instantiator", None)
    if args[0] == "fit":
        remembered = {name: value for name, value in remembered.items() if name in KEPT}
        remembered["loss"] = {**remembered["loss"], "source_weights": None}  # of the corpus, not of the model
    return [args[0], "--config", json.dumps({"model": remembered}), *args[1:]]


def _with_plain_videos(args: list[str]) -> list[str]:
    """Has predict read videos and no pairs where configs name a fit's datamodule, or none.

    What else such a datamodule is set to then costs nothing and cannot fail. Configs come first, so that what
    is typed wins wherever it stands.
    """
    named = str(_configured(args, "data").get("class_path", "RoundDataModule"))
    if args[:1] != ["predict"] or names_teacher(args) or not named.endswith("RoundDataModule"):
        return args
    configs: list[str] = []
    typed: list[str] = []
    words = iter(args[1:])
    for word in words:
        if word in ("--config", "-c"):
            configs += [word, *islice(words, 1)]
        else:
            (configs if word.startswith(("--config=", "-c=")) else typed).append(word)
    # A fit's number of workers, if only its default, would be taken over.
    plain = ["--data", "datamodules.VideoDataModule", "--data.workers", "null"]
    return ["predict", *configs, *plain, *typed]


def _configured(args: Sequence[str], part: str = "model") -> dict[str, Any]:
    """What the configs among the words say of the model, or of another part, the last one winning."""
    words = [part for word in args for part in word.split("=", 1)]
    configs = [value for flag, value in pairwise(words) if flag in ("--config", "-c")]
    texts = [config if config.lstrip().startswith("{") else Path(config).read_text() for config in configs]
    try:
        loaded = [yaml.safe_load(text) for text in texts]
    except yaml.YAMLError:
        return {}  # the parser will say what is wrong with it
    parts = [config.get(part) for config in loaded if isinstance(config, dict)]
    return {name: value for found in parts if isinstance(found, dict) for name, value in found.items()}


def names_teacher(args: Sequence[str]) -> bool:
    """Whether predict is asked to score by a teacher, in words or in a config."""
    if args[:1] != ["predict"]:
        return False
    return any(word.startswith("--model.teacher") for word in args) or "teacher" in _configured(args)


def main(args: Sequence[str] | None = None) -> None:
    """Runs one command.

    Args:
        args: words of the command line without the program's name; none: those of this process.

    Raises:
        SystemExit: code 2 and one sentence on stderr for a user's mistake.
    """
    _put_last(Path.cwd().resolve())
    try:
        words, again = _with_newest_run(_with_known_configs(list(sys.argv[1:] if args is None else args)))
        if words and words[0] in COMMANDS:
            run_command(words, _Parser)
            return
        # Lightning's advertisements among its messages.
        logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
            lambda record: "Tip:" not in record.getMessage()
        )
        with warnings.catch_warnings(), _told_once():
            # https://github.com/Lightning-AI/pytorch-lightning/issues/21900
            warnings.filterwarnings("ignore", module="lightning.pytorch.cli", category=DeprecationWarning)
            # https://github.com/Lightning-AI/pytorch-lightning/issues/21326
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            RankingCLI(
                TeacherModule if names_teacher(words) else RankingModule,
                LightningDataModule,
                subclass_mode_data=True,
                again=again,
                save_config_callback=RunFolder,
                seed_everything_default=0,
                parser_class=_Parser,
                parser_kwargs={
                    "prog": "vqa-lightning",
                    "description": "Train and use video quality models without human labels. "
                    f"Besides, {', '.join(COMMANDS)}: each has a --help of its own. "
                    "`predict --model.teacher CLASS` needs no training.",
                },
                auto_configure_optimizers=False,
                args=_with_checkpoint_below(_with_plain_videos(words)),
            )
    except Exception as error:
        told = _told_to_the_user(error)
        if told is None:
            raise
        print(f"error: {_sentence(told)}", file=sys.stderr)
        raise SystemExit(2) from None


@contextmanager
def _told_once() -> Iterator[None]:
    """Has no thread print a traceback for want of room: the main thread meets the same and says so."""
    others = threading.excepthook

    def tell(failed: threading.ExceptHookArgs) -> None:
        if _told_to_the_user(failed.exc_value) is None:
            others(failed)

    threading.excepthook = tell
    try:
        yield
    finally:
        threading.excepthook = others


def _sentence(told: BaseException) -> str:
    """What it says, without the traceback that torch wraps around what a worker raised."""
    if isinstance(told, OSError):
        place, reason = told.filename or "a file of the run", os.strerror(told.errno or 0)
        if told.errno in NO_ROOM:
            return f"{place} cannot be written ({reason}): make room, and go on with --ckpt_path last."
        return f"{place} cannot be used ({reason}): change its rights, or name another place."
    lines = str(told).strip().splitlines()
    if not lines[0].startswith("Caught "):
        return lines[0]
    return re.sub(r"^[\w.]+: ", "", lines[-1])


def _told_to_the_user(error: BaseException | None) -> BaseException | None:
    """What a user can mend, in a chain of exceptions: jsonargparse wraps what a class raises when made."""
    while error is not None and not (
        isinstance(error, InputError | UnreadableVideo | MisconfigurationException)
        or (isinstance(error, OSError) and error.errno in (*NO_ROOM, *NO_RIGHT))
    ):
        error = error.__cause__ or error.__context__
    return error
