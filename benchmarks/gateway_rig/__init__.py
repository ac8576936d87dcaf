"""The parts of ``benchmarks/gateway.py``: traffic, servers, the sender, and the arithmetic of what was seen."""
