"""Do rows that share a line keep apart in this model? Proven on one line before anything is trained on such lines."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from offmap.errors import InputError
from offmap.train.batches import Line, collate
from offmap.train.objective import Objective
from offmap.train.rows import Material

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Of the largest state, by what products are computed in."""


def require_apart(objective: Objective, batches: Sequence[Sequence[Line]], data: Material, dtype: torch.dtype) -> None:
    """Compare the last hidden states of one packed line with those of its rows alone.

    Args:
        objective: whose trunk is asked; it is left in training mode or not, as it was.
        batches: the plan; nothing is done where no line of it holds several rows.
        data: the rows.
        dtype: what products are computed in: float32 or bfloat16.

    Raises:
        InputError: they differ: the model's attention, or its memory, goes from row to row.
    """
    line = next((line for batch in batches for line in batch if len(line) > 1), None)
    if line is None:
        return
    before = objective.training
    objective.eval()
    try:
        together, *each = (_final(objective, rows, data, dtype) for rows in (line, *([at] for at in line)))
    except TypeError as error:
        raise _refused(objective, f"takes no positions ({error})") from error
    finally:
        objective.train(before)
    alone = torch.cat(each)
    if not bool((together - alone).abs().max() <= TOLERANCE[dtype] * alone.abs().max()):
        raise _refused(objective, "mixes rows that share a line")


def _final(objective: Objective, line: Line, data: Material, dtype: torch.dtype) -> torch.Tensor:
    """(tokens, d) float32: the last hidden states of the rows of a line, one after another."""
    device, batch = next(objective.parameters()).device, collate([line], data)
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        states: torch.Tensor = objective.read(batch["ids"].to(device), batch["positions"].to(device)).last_hidden_state
    return states[0, : sum(len(data.rows[at]) for at in line)].float()


def _refused(objective: Objective, found: str) -> InputError:
    return InputError(f"{type(objective.model).__name__}: {found}; wanted pack off for this model")
