"""The one exception that means "the input is wrong": its message is for a person, and the command line exits with 2."""

from __future__ import annotations


class InputError(ValueError):
    """Wrong input: a file, a row, a field or an option. The message says what was found and what is wanted."""
