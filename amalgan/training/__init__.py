"""Whose turn it is: the trainer, its checkpoints, several processes."""

from amalgan.training.trainer import Diverged, Plan, Trainer

__all__ = ["Diverged", "Plan", "Trainer"]
