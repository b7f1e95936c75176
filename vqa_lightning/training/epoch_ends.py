"""Runs that go on from a checkpoint of an epoch's last batch.

Lightning takes such an epoch for finished and leaves out all that belongs to its end: validation, and with
the hooks a round's annotation. A run is most likely to die there, for annotation lasts.
"""

from typing import Any


def end_epoch_again(loops: dict[str, Any]) -> None:
    """Let an epoch whose checkpoint was saved after its last batch end as if nothing had happened.

    A checkpoint of any other moment stays as it is.

    Args:
        loops: the checkpoint's entry, changed in place.
    """
    fit = loops["fit_loop"]
    batches = fit["epoch_loop.batch_progress"]
    total = batches["total"]
    if not batches["is_last_batch"] or total["completed"] == total["processed"]:
        return
    for progress in (total, batches["current"]):
        progress["completed"] = progress["processed"]
    # A validation that was begun and has no batch yet: Lightning then validates from the first.
    validation = fit["epoch_loop.val_loop.batch_progress"]
    for name in ("ready", "started"):
        validation["total"][name] = validation["total"]["completed"] + 1
    validation["current"] = dict.fromkeys(validation["current"], 0)
