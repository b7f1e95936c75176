"""The order in which Python looks for modules, set when this module is imported.

Nothing of ours, and nothing that a user's folder might hide, may be imported before this module.
"""

import sys
from functools import cache
from pathlib import Path

_PACKAGES = ("callbacks", "datamodules")


def current_folder() -> Path:
    """Return the current folder.

    Raises:
        SystemExit: code 2 and one sentence, because it has been removed.
    """
    try:
        return Path.cwd().resolve()
    except OSError as error:
        print(f"error: the current folder is gone ({error.strerror}): change into another.", file=sys.stderr)
        raise SystemExit(2) from None


@cache
def put_last(here: Path) -> None:
    """Put a folder behind the installed packages on the search path.

    `python -m` searches the current folder first, and a console script does not search it at all. A user's
    own modules must be found, but a user's folder named as one of our packages must not hide that package.

    Args:
        here: the current folder, absolute.
    """
    if here == Path(__file__).resolve().parents[2]:
        return
    sys.path[:] = [*(entry for entry in sys.path if Path(entry or ".").resolve() != here), str(here)]
    shadows = [name for name in _PACKAGES if (here / name).exists() or (here / f"{name}.py").exists()]
    if shadows:
        print(
            f"note: the current folder has its own {' and '.join(shadows)}; "
            "vqa-lightning uses its own of that name.",
            file=sys.stderr,
        )


put_last(current_folder())
