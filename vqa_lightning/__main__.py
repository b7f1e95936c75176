"""`python -m vqa_lightning`, and the console script: the command line, which takes seconds to load."""

import atexit
import os
import signal
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def start() -> None:
    """Load the command line and run it; a signal that comes before it is loaded is no traceback."""
    answered = [one for one in _SIGNALS if signal.getsignal(one) != signal.SIG_IGN]
    atexit.register(_ignore, answered)  # registered first, it comes last
    for one in answered:
        signal.signal(one, _before_anything)
    from vqa_lightning.cli import main

    code: object = 1
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code or 0
        raise
    finally:  # what was done is done, and how it ended is said
        for one in answered:
            signal.signal(one, lambda *_: os._exit(code if isinstance(code, int) else 1))


def _ignore(answered: list[signal.Signals]) -> None:
    """Answer no signal any more: at its end the interpreter would let the system answer them."""
    for one in answered:
        signal.signal(one, signal.SIG_IGN)


def _before_anything(signum: int, frame: FrameType | None) -> None:
    os.write(2, f"ended by {signal.Signals(signum).name}: nothing was begun\n".encode())
    os._exit(128 + signum)


if __name__ == "__main__":  # where workers are spawned, they import this module
    start()
