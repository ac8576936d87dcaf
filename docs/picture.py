"""Draw docs/recall.svg from the report of a benchmark run: python docs/picture.py RUN_DIR."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from offmap.atomic import write_whole
from offmap.bench.charts import recall_picture
from offmap.bench.results import Report


def main(run: Path) -> None:
    """Read ``run``/report.json and write the picture beside this script."""
    report = msgspec.json.decode((run / "report.json").read_bytes(), type=Report)
    write_whole(Path(__file__).with_name("recall.svg"), recall_picture(report).encode())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
