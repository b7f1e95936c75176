"""How near a clip comes to its source: full-reference metrics, on tensors alone.

Imports only `datamodules.errors`, `datamodules.checks` and `datamodules.video`.
"""

from datamodules.fidelity.gmsd import gmsd
from datamodules.fidelity.ms_ssim import structural_similarity
from datamodules.fidelity.ssim import ssim
from datamodules.fidelity.vmaf import vmaf
from datamodules.fidelity.xpsnr import xpsnr

__all__ = ["gmsd", "ssim", "structural_similarity", "vmaf", "xpsnr"]
