"""Arrays in files of others: MATLAB's and NumPy's."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.processes import apart

LARGEST = 1 << 28
"""Bytes that the arrays of an .npz may have: a file of a few kB can announce any number."""


def read_arrays(file: Path) -> Mapping[str, npt.NDArray[Any]]:
    """Read the variables of a .mat file, or the arrays of an .npz, without running what either may hold.

    Args:
        file: by its suffix; MATLAB's up to version 7, whose rows and columns of one become vectors.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is damaged, of another kind, or too large.
    """
    try:
        if file.suffix.lower() == ".mat":
            with apart(_variables) as variables:
                return variables(file)
        with zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST:
                raise ValueError(f"it would take more than {LARGEST >> 20} MB")
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError):
        raise
    except Exception as error:  # the libraries raise what the damage happens to cause
        raise ValueError(str(error)) from error


def _variables(file: Path) -> dict[str, npt.NDArray[Any]]:
    from scipy.io import loadmat  # here: few files are MATLAB's

    variables: dict[str, Any] = loadmat(file, simplify_cells=True)
    return {name: value for name, value in variables.items() if name[:2] != "__"}
