"""Backbones: conversations in, features out. What needs torch is imported only when a backbone is opened."""

from offmap.backbones.base import Backbone
from offmap.backbones.source import BackboneSource, open_backbone

__all__ = ["Backbone", "BackboneSource", "open_backbone"]
