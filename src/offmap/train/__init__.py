"""How guards are trained: guard heads and a language model on one trunk, and what must not leak into them."""

from offmap.train.audit import Audit, Leak, audit
from offmap.train.options import TrainOptions
from offmap.train.particles import train_particles
from offmap.train.reference import train_reference
from offmap.train.run import train

__all__ = ["Audit", "Leak", "TrainOptions", "audit", "train", "train_particles", "train_reference"]
