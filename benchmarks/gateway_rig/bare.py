"""What the embedded monitor and its bare forward pass take of each exchange, without a gateway: seconds, as JSON.

    python -m gateway_rig.bare EXCHANGES OUT REPEATS ROWS

One conversation at a time, as the gateway asks at a low rate, one thread. The bare pass is ``overhead.py``'s: logits of
every token, which nobody reads.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from gateway_rig.traffic import read_exchanges
from offmap.conversation import Conversation


def seconds_of(run: Callable[[list[Conversation]], object], looked_at: list[list[Conversation]]) -> list[float]:
    """For each exchange, the time that all its stages take one after the other."""
    found = []
    for stages in looked_at:
        start = time.perf_counter()
        for conversation in stages:
            run([conversation])
        found.append(time.perf_counter() - start)
    return found


def main(path: Path, out: Path, repeats: int, rows: int) -> None:
    """Both in turn, ``repeats`` times after one that is not kept; the median of each exchange."""
    import torch
    from overhead import opened

    from offmap.monitor import load

    torch.set_num_threads(1)
    model, backbone = opened("auto")
    looked_at = [row.stages() for row in read_exchanges(path)[:rows]]
    ids = {c: torch.from_numpy(backbone.render([c])[0].ids).long()[None] for stages in looked_at for c in stages}

    def bare(rows: list[Conversation]) -> None:
        with torch.inference_mode(), backbone._precision(torch.device("cpu")):
            model(input_ids=ids[rows[0]], use_cache=False)

    runs: dict[str, Callable[[list[Conversation]], object]] = {"bare pass": bare, "monitor": load("pocket").score}
    times: dict[str, list[list[float]]] = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            times[name].append(seconds_of(run, looked_at))
    told = {name: [median(each) for each in zip(*found[1:], strict=True)] for name, found in times.items()}
    out.write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
