"""How a command ends when a signal tells it to: in order, with one line and the code that shells expect."""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from traceback import clear_frames

from lightning_utilities.core.rank_zero import rank_zero_only

from callbacks.runs.process_watch import LAUNCHER
from datamodules.files import give_back_claims
from datamodules.processes import END, Ended


@contextmanager
def ended_in_order(words: Sequence[str]) -> Iterator[None]:
    """Answer signals while a command runs, and give back at its end what it has claimed.

    Args:
        words: of the command line, as typed.

    Raises:
        SystemExit: code 128 + N where signal N ended the command, and one line on stderr.
    """
    with END.heard(f"go on with: {line_of(words) or 'the same line'}"):
        END.silent = rank_zero_only.rank != 0  # type: ignore[attr-defined]
        try:
            yield
        except BaseException as error:
            signum = error.signum if isinstance(error, Ended) else END.signum
            if signum is None:
                raise
            END.tell(signum)
            # Whatever else was raised on the way followed from the signal, and what was half made goes here,
            # where nobody is told that it was.
            raised: BaseException | None = error
            while raised is not None:
                clear_frames(raised.__traceback__)
                raised = raised.__context__
            END.close()
            raise SystemExit(128 + signum) from None
        finally:
            give_back_claims()


def line_of(words: Sequence[str], without: str = "") -> str:
    """Return what was typed to run this command; nothing where a launcher such as torchrun hides it.

    Args:
        words: of the command line, without the program's name.
        without: a flag that is left out with its value.

    Example:
        >>> line_of(["fit", "--ckpt_path", "a.ckpt", "--data.videos", "my videos"], without="--ckpt_path")
        "vqa-lightning fit --data.videos 'my videos'"
    """
    if "LOCAL_RANK" in os.environ and LAUNCHER not in os.environ:
        return ""
    program = "vqa-lightning"
    if Path(sys.argv[0]).name == "__main__.py":
        program = "python -m vqa_lightning"
    kept = [
        word
        for before, word in pairwise(["", *words])
        if not without or (before != without and word.partition("=")[0] != without)
    ]
    return shlex.join([*program.split(), *kept])
