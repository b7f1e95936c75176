"""The two ways in which material from outside can be wrong.

Both carry one finished sentence, which the command line prints as it is, without a traceback.
"""

_NO_TEXT = {0xDC00 + byte: rf"\x{byte:02x}" for byte in range(0x80, 0x100)}


def reason(error: BaseException) -> str:
    """Return what an exception of a library says, in one line without a full stop.

    Example:
        >>> reason(FileNotFoundError(2, "No such file or directory")), reason(ValueError())
        ('No such file or directory', 'ValueError')
    """
    told = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(told).splitlines()[0].rstrip(".:")


class InputError(Exception):
    """A user's mistake: one sentence that names the thing, its value and the remedy; it ends the command."""

    def __init__(self, sentence: str) -> None:
        # Names of files may hold bytes that are not UTF-8, which no page or log can.
        super().__init__(sentence.translate(_NO_TEXT))


class UnreadableVideo(RuntimeError):  # noqa: N818 - it names a state of the file, told in a corpus row or a scores row
    """A file that gives no frames: one sentence that says why; it becomes a row's error and ends nothing."""
