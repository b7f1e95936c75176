"""A model's scores on the scale of a list of human opinions, fitted once and kept as JSON.

A scale belongs to one model: the file carries the name and hash that predict writes beside every score.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import get_type_hints

import numpy as np
import numpy.typing as npt

from datamodules.errors import InputError
from vqa_lightning.metrics.correlation import agreement
from vqa_lightning.metrics.logistic import Floats, Logistic, fit_logistic


@dataclass(frozen=True)
class HumanScale:
    """The logistic from a model's scores to opinions.

    The logistic is strictly monotone over the whole real line and keeps the order of any two scores, up to
    rounding far outside the fitted scores. There it saturates at b1 and b2, and says little of videos better
    or worse than every video on the list. The model's own scale has no such ends.

    Attributes:
        name: name of the list of opinions.
        model: name and hash of the model, as in the column `model` of predict's output.
        b1: limit of the opinion for high scores.
        b2: limit of the opinion for low scores.
        b3: score in the middle.
        b4: width in scores, above 0.
        n: number of fitted videos.
        srcc: SRCC of the scores with the opinions.
        rmse: root mean square error of the mapped scores, in the unit of opinions.

    Example:
        >>> scores = np.linspace(20, 80, 30)
        >>> scale = HumanScale.fit(scores, Logistic(5, 1, 50, 10)(scores), name="mine", model="model")
        >>> round(float(scale(50)), 3)
        3.0
    """

    name: str
    model: str
    b1: float
    b2: float
    b3: float
    b4: float
    n: int
    srcc: float
    rmse: float

    @classmethod
    def fit(cls, scores: npt.ArrayLike, mos: npt.ArrayLike, *, name: str, model: str) -> "HumanScale":
        """Fit to the scores and opinions (n,) of the same videos.

        Raises:
            InputError: as for `agreement` and `fit_logistic`.
        """
        found = agreement(scores, mos)
        curve = fit_logistic(scores, mos)
        return cls(name, model, *curve, int(found["n"]), found["srcc"], found["rmse"])

    @property
    def curve(self) -> Logistic:
        """The four parameters as a function."""
        return Logistic(self.b1, self.b2, self.b3, self.b4)

    def __call__(self, scores: npt.ArrayLike) -> Floats:
        """Return opinions for scores of any shape; nan stays nan."""
        return self.curve(scores)

    def save(self, path: str | PurePath) -> None:
        """Write the scale as JSON.

        Raises:
            InputError: the file cannot be written.
        """
        try:
            Path(path).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"The calibration {path} cannot be written ({error.strerror}); name another place."
            ) from error

    @classmethod
    def load(cls, path: str | PurePath) -> "HumanScale":
        """Read a scale that `save` wrote.

        Raises:
            InputError: the file cannot be read, or is no calibration.
        """
        try:
            told = json.loads(Path(path).read_text(encoding="utf-8"))
            scale = cls(**{name: kind(told[name]) for name, kind in get_type_hints(cls).items()})
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__} {error}"
            raise InputError(
                f"The calibration {path} cannot be read ({reason}); give a JSON file that "
                "HumanScale.save wrote."
            ) from error
        if not (np.isfinite(scale.curve).all() and scale.b4 > 0 and scale.b1 != scale.b2):
            raise InputError(
                f"The calibration {path} has the parameters {scale.curve}, which are no rising or falling "
                "logistic; fit it again."
            )
        return scale
