"""Backbones: conversations in, features out. What needs torch is imported only when a backbone is opened."""

import os

# Before torch is first imported: threads that spin while they wait are slow beside any other work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from offmap.backbones.base import Backbone
from offmap.backbones.source import BackboneSource, open_backbone

__all__ = ["Backbone", "BackboneSource", "open_backbone"]
