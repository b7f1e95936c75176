"""Teachers: annotators that give every video a score before anything is trained; higher is better.

Imports labels and what lies below them; no teacher imports another but its base.
"""

from datamodules.teachers.laplacian import Laplacian
from datamodules.teachers.teacher import Teacher

__all__ = ["Laplacian", "Teacher"]
