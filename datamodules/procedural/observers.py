"""Opinions of simulated observers on the embedded corpus, for runs that learn from MOS.

Only in this way does the hidden truth reach training: the list is written when a run asks for human-labelled
pairs of the embedded corpus and names no list, and never otherwise.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from datamodules.files import written_whole
from datamodules.procedural.corpus import read_truth

MOS = "mos.csv"
OBSERVERS = 24
"""What ITU-T P.913 asks of a test in one controlled room."""

_BIAS, _INCONSISTENCY = 0.3, (0.4, 0.8)


def opinion(truth: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the opinion from 1 to 5 that people would agree on.

    It is a logistic in decibels, -10 log10(1 - MS-SSIM): strictly monotone, 3 at 10 dB (.9) and 4.5 at 18 dB
    (.984).

    Args:
        truth: MS-SSIM below 1, any shape.

    Example:
        >>> opinion([0.5, 0.9, 0.984]).round(1)
        array([1.6, 3. , 4.5])
    """
    decibels = -10 * np.log10(1 - np.asarray(truth, dtype=np.float64))
    return np.asarray(1 + 4 / (1 + np.exp((10 - decibels) / 4)))


def vote(quality: npt.NDArray[np.float64], seed: int = 0) -> npt.NDArray[np.int64]:
    """Let observers vote, each with a bias and an inconsistency of its own.

    A vote is quality + bias + inconsistency x noise, rounded and clipped to the five-point scale: the model
    of Li and Bampis, "Recover subjective quality scores from noisy measurements" (DCC 2017), which ITU-T
    P.913 took up. Biases are normal with deviation 0.3, inconsistencies uniform from 0.4 to 0.8.

    Args:
        quality: (n,) from 1 to 5.
        seed: of observers and noise; the votes on a video depend on its quality and position alone.

    Returns:
        (n, OBSERVERS), from 1 (bad) to 5 (excellent).

    Example:
        >>> vote(opinion([0.5, 0.9])).shape
        (2, 24)
    """
    generator = np.random.default_rng(seed)
    bias = generator.normal(0, _BIAS, OBSERVERS)
    inconsistency = generator.uniform(*_INCONSISTENCY, OBSERVERS)
    noise = generator.standard_normal((len(quality), OBSERVERS))
    votes = quality[:, None] + bias + inconsistency * noise
    return np.rint(votes).clip(1, 5).astype(np.int64)


def write_mos(folder: Path, seed: int = 0) -> Path:
    """Write the opinions of simulated observers on a procedural corpus.

    Args:
        folder: where `write_corpus` wrote the corpus.
        seed: of `vote`.

    Returns:
        mos.csv in the folder: columns path, mos, deviation (sample standard deviation of the votes), votes.

    Raises:
        InputError: the folder holds no finished procedural corpus.
    """
    truth = read_truth(folder, "ms_ssim")
    votes = vote(opinion(list(truth.values())), seed)
    columns = {
        "path": list(truth),
        "mos": votes.mean(axis=1),
        "deviation": votes.std(axis=1, ddof=1),
        "votes": [OBSERVERS] * len(votes),
    }
    with written_whole(folder / MOS) as hidden:
        pyarrow.csv.write_csv(pa.table(columns), hidden)
    return folder / MOS
