"""What the settings of Trainer and data mean on Ray, and which of them mean nothing there."""

from collections.abc import Mapping
from typing import Any

from datamodules.errors import InputError
from datamodules.video_data import VideoDataModule
from vqa_lightning.ray.pipeline import Stages

_ONLY: dict[str, tuple[Any, ...]] = {
    "precision": (None, "32-true", "32", 32),
    "limit_predict_batches": (None, 1.0),
    "fast_dev_run": (False, 0),
    "strategy": ("auto",),
    "num_nodes": (1,),
    "plugins": (None,),
}
"""Setting of the Trainer -> the values under which Ray does what Lightning would do."""

_GPUS = {"auto": None, "cpu": 0.0, "gpu": 1.0, "cuda": 1.0}


def stages_of(trainer: Mapping[str, Any], data: object) -> Stages:
    """Return how the work is laid over the cluster, by the settings that Lightning has for it.

    Args:
        trainer: settings of the Trainer as they were parsed: `accelerator` says where actors score, `devices`
            how many there are.
        data: `workers` says how many tasks read at a time.

    Raises:
        InputError: a setting has no meaning on Ray.

    Example:
        >>> trainer = dict(accelerator="cpu", devices=4, precision=None, limit_predict_batches=None)
        >>> trainer |= dict(fast_dev_run=False, strategy="auto", num_nodes=1, plugins=None)
        >>> stages_of(trainer, VideoDataModule("videos", workers=8))
        Stages(score_every=None, batch_size=8, readers=8, scorers=4, gpus=0.0)
    """
    for name, values in _ONLY.items():
        if trainer[name] not in values:
            raise InputError(f"--trainer.{name} {trainer[name]} does not go with --engine ray: leave it out.")
    if type(data) is not VideoDataModule:
        raise InputError(
            f"--data must be datamodules.VideoDataModule with --engine ray; got {type(data).__name__}."
        )
    if data.workers_given and data.workers < 1:
        raise InputError("--data.workers must be 1 or more with --engine ray; got 0.")
    accelerator, devices = str(trainer["accelerator"]).lower(), str(trainer["devices"])
    if accelerator not in _GPUS:
        raise InputError(
            f"--trainer.accelerator must be one of {', '.join(_GPUS)} with --engine ray; got {accelerator}."
        )
    if devices not in ("auto", "-1") and not (devices.isdigit() and int(devices)):
        raise InputError(
            f"--trainer.devices must be auto or a number of actors with --engine ray; got {devices}."
        )
    return Stages(
        score_every=data.score_every,
        batch_size=data.batch_size,
        readers=data.workers or None,
        scorers=int(devices) if devices.isdigit() else None,
        gpus=_GPUS[accelerator],
    )
