"""The other end of ``killable``."""

import json
import os
import subprocess
import sys
from pathlib import Path


class Nursery:
    """Starts gateways, one at a time."""

    def __init__(self):
        command = [sys.executable, str(Path(__file__).with_name("killable.py"))]
        quiet = os.environ | {"OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self.parent = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=quiet)

    def start(self, **options):
        """The process's id and its port; see ``killable.serve``."""
        self.parent.stdin.write(json.dumps(options) + "\n")
        self.parent.stdin.flush()
        return json.loads(self.parent.stdout.readline())

    def ended(self):
        return json.loads(self.parent.stdout.readline())["exit"]

    def close(self):
        _, told = self.parent.communicate(timeout=30)
        assert self.parent.returncode == 0, told
