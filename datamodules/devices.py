"""What crosses to a device, and numbers that a device does not have: Apple's GPUs (mps) have no float64.

Imports nothing of this package.
"""

import torch
from torch import Tensor


def has_float64(device: torch.device) -> bool:
    """Return whether a device can hold float64.

    Example:
        >>> has_float64(torch.device("cpu")), has_float64(torch.device("mps"))
        (True, False)
    """
    return device.type != "mps"


def for_device(values: Tensor, device: torch.device) -> Tensor:
    """Move values of the host to a device, as float32 where they are float64 and it has none.

    The host does not wait for the device, as it does with `torch.tensor(values, device=device)` and with
    `values.to(device)`.

    Example:
        >>> for_device(torch.zeros(2, dtype=torch.float64), torch.device("cpu")).dtype
        torch.float64
    """
    lacking = values.dtype == torch.float64 and not has_float64(device)
    # Not on mps, where PyTorch's copies may read memory that has been used anew.
    return (values.float() if lacking else values).to(device, non_blocking=device.type not in ("cpu", "mps"))


def in_float64(values: Tensor) -> Tensor:
    """Return values in float64, where they are or, if their device has none, on the CPU.

    Example:
        >>> in_float64(torch.ones(2)).dtype
        torch.float64
    """
    return (values if has_float64(values.device) else values.cpu()).double()
