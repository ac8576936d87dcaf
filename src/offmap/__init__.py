"""offmap: monitors that notice when an LLM leaves the map.

The public names load on first use, so that ``import offmap`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offmap.backbones import open_backbone as open_backbone
    from offmap.conversation import Conversation as Conversation
    from offmap.conversation import Message as Message
    from offmap.conversation import Tool as Tool
    from offmap.conversation import ToolCall as ToolCall
    from offmap.conversation import read as read
    from offmap.detectors import Detector as Detector
    from offmap.errors import InputError as InputError
    from offmap.monitor import DEFAULT_DETECTORS as DEFAULT_DETECTORS
    from offmap.monitor import Monitor as Monitor
    from offmap.monitor import Verdict as Verdict
    from offmap.monitor import load as load

__version__ = "0.1.0"

_PUBLIC = {
    "Conversation": "offmap.conversation",
    "DEFAULT_DETECTORS": "offmap.monitor",
    "Detector": "offmap.detectors",
    "InputError": "offmap.errors",
    "Message": "offmap.conversation",
    "Monitor": "offmap.monitor",
    "Tool": "offmap.conversation",
    "ToolCall": "offmap.conversation",
    "Verdict": "offmap.monitor",
    "load": "offmap.monitor",
    "open_backbone": "offmap.backbones",
    "read": "offmap.conversation",
}

__all__ = sorted([*_PUBLIC, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'offmap' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
