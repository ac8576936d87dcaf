import threading

import pytest
from tests.gateway.wire.chatting import Behind

from offmap.gateway.config import Upstream


@pytest.fixture
def behind():
    with Behind() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(serve, behind):
    """A function that opens a test client of a gateway before the server."""
    return lambda timeout=5.0, **options: serve(upstream=Upstream(behind.url, "", timeout), **options)
