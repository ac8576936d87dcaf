"""A browser that is driven: real keys, real clicks, screenshots. It speaks over a pipe, so no port is opened."""

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

FLAGS = (
    "headless no-sandbox disable-gpu disable-background-networking disable-component-update disable-sync no-first-run "
    "remote-debugging-pipe hide-scrollbars"
)
PATIENCE = 20
NAMED = {"Enter": ("Enter", 13, "\r"), "Escape": ("Escape", 27, ""), "Tab": ("Tab", 9, "")}


LAUNCH = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)


def launched(command):
    """A process that reads from file descriptor 3 and writes to 4, and our ends of these pipes."""
    ends = [*os.pipe(), *os.pipe()]
    theirs = [fcntl.fcntl(ends[at], fcntl.F_DUPFD, 64) for at in (0, 3)]  # neither is 3 or 4
    launcher = [sys.executable, "-ISc", LAUNCH, *map(str, theirs), *command]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(launcher, pass_fds=theirs, **quiet)
    for end in (*theirs, ends[0], ends[3]):
        os.close(end)
    return process, ends[2], ends[1]


class Tab:
    """A page of headless Chromium, by its DevTools protocol.

    Attributes:
        complaints: what its console said and what its policy forbade.
    """

    def __init__(self, profile, width=1280, height=900):
        chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
        if chromium is None:
            pytest.skip("no Chromium: no page was opened in a browser")
        command = [chromium, *(f"--{flag}" for flag in FLAGS.split()), f"--user-data-dir={profile}", "about:blank"]
        self._last, self._rest, self.complaints, self._loads = 0, b"", [], 0
        self._process, self._in, self._out = launched(command)
        self._session = None
        found = self.send("Target.getTargets")["targetInfos"]
        page = next(each["targetId"] for each in found if each["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.size(width, height)

    def send(self, method, **parameters):
        self._last += 1
        told = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            told["sessionId"] = self._session
        os.write(self._out, json.dumps(told).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < end, f"{method}: no answer"
            message = self._read()
            if message.get("id") == self._last:
                assert "error" not in message, message["error"]
                return message["result"]

    def of_browser(self, method, **parameters):
        """Ask the browser and not its page."""
        session, self._session = self._session, None
        try:
            return self.send(method, **parameters)
        finally:
            self._session = session

    def _read(self):
        while b"\0" not in self._rest:
            piece = os.read(self._in, 1 << 16)
            assert piece, "the browser has gone"
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        if message.get("method") == "Page.loadEventFired":
            self._loads += 1
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(message["params"]["exceptionDetails"]["text"])
        if message.get("method") == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.complaints.append(message["params"]["entry"]["text"])
        return message

    def size(self, width, height=900, *, dark=False):
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def scripts(self, on):
        self.send("Emulation.setScriptExecutionDisabled", value=not on)

    @contextlib.contextmanager
    def loading(self):
        """Whatever is done within leads to another page, which is there at the end."""
        before = self._loads
        yield
        end = time.monotonic() + PATIENCE
        while self._loads == before:
            assert time.monotonic() < end, "no page was loaded"
            self.of_browser("Browser.getVersion")  # its answer brings with it what was told meanwhile
            time.sleep(0.02)

    def go(self, address):
        with self.loading():
            self.send("Page.navigate", url=address)

    def key(self, name):
        key, code, text = NAMED.get(name) or (name, ord(name.upper()), name)
        event = {"key": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
        self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text):
        self.send("Input.insertText", text=text)

    def ask(self, expression):
        """What an expression of the page's own world is."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def click(self, selector):
        where = self.ask(
            f"(e => {{ e.scrollIntoView({{block: 'center', behavior: 'instant'}}); const b = e.getBoundingClientRect();"
            f" return [b.x + b.width / 2, b.y + b.height / 2] }})(document.querySelector({json.dumps(selector)}))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            x, y = where
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    @property
    def text(self):
        return self.ask("document.body.innerText")

    @property
    def path(self):
        return self.ask("location.pathname + location.search")

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def close(self):
        with contextlib.suppress(AssertionError, OSError):
            self.of_browser("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        os.close(self._out)


@pytest.fixture
def tab(tmp_path_factory):
    """A page of a browser of its own."""
    with contextlib.closing(Tab(tmp_path_factory.mktemp("profile"))) as opened:
        yield opened
