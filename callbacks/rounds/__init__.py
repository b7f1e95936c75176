"""Self-improvement: what happens at the end of a round, and by what a round is judged.

Imports `datamodules` and `vqa_lightning`; the other rooms of callbacks listen to it.
"""

from callbacks.rounds.finished_round import FinishedRound, RoundListener
from callbacks.rounds.self_improvement import SelfImprovement

__all__ = ["FinishedRound", "RoundListener", "SelfImprovement"]
