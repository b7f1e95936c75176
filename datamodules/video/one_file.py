"""What goes wrong with one file is told of that file, whatever a library raises, and ends nothing else.

A worker that dies of a file leaves its name behind.
"""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from datamodules.errors import InputError, UnreadableVideo, reason
from datamodules.processes import reading

P = ParamSpec("P")
Found = TypeVar("Found")
File = TypeVar("File")

Reading = Callable[Concatenate[File, P], Found]


def of_one_file(name: Callable[[File], str]) -> Callable[[Reading[File, P, Found]], Reading[File, P, Found]]:
    """Have a function raise nothing but UnreadableVideo and InputError.

    Args:
        name: gives the file's name, of the function's first argument.

    Example:
        >>> @of_one_file(str)
        ... def frames(path: str) -> int:
        ...     return [25][1]
        >>> frames("a.mp4")
        Traceback (most recent call last):
        datamodules.errors.UnreadableVideo: a.mp4 cannot be read: list index out of range.
    """

    def of(read: Reading[File, P, Found]) -> Reading[File, P, Found]:
        @wraps(read)
        def told(file: File, /, *args: P.args, **kwargs: P.kwargs) -> Found:
            try:
                with reading(name(file)):
                    return read(file, *args, **kwargs)
            except (InputError, UnreadableVideo):
                raise
            except Exception as error:
                raise UnreadableVideo(f"{name(file)} cannot be read: {reason(error)}.") from error

        return told

    return of
