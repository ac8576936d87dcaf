"""Conversations: the types that monitors read."""

from offmap.conversation.types import ROLES, Conversation, Image, Message, Role, Tool, ToolCall

__all__ = ["ROLES", "Conversation", "Image", "Message", "Role", "Tool", "ToolCall"]
