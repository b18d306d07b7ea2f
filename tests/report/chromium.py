"""Drives a headless Chromium through its debugging pipe: enough to open a page, size it, ask it and photograph it.

Needs no package: messages are JSON, each ended by a zero byte, on file descriptors 3 (to the browser) and 4 (from it).
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

# Puts the pipes' ends where the browser looks for them, by way of others: 3 or 4 may be one of the ends.
_START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""

_TIMEOUT_SECONDS = 60.0
_SETTLE_SECONDS = 2.0

# Two frames: media queries and sizes are looked at anew before each one is drawn.
_TWO_FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
# Plotly draws anew some time after its box has changed. On paper figures have a width of their own.
_FITTED = """matchMedia("print").matches || [...document.querySelectorAll(".plot")].every(
  (box) => !box.querySelector("svg") || box.querySelector("svg").clientWidth === box.clientWidth)"""


def find_chromium() -> str | None:
    """Gives the first browser on the path."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Chromium:
    """A running browser with one page."""

    to_browser: int
    from_browser: int
    session: str = ""
    shown: str = ""
    runs_scripts: bool = True
    events: list[dict[str, Any]] = field(default_factory=list)
    _received: bytearray = field(default_factory=bytearray)
    _last_id: int = 0

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Sends a command and waits for its answer; events that come meanwhile are kept."""
        self._last_id += 1
        message: dict[str, object] = {"id": self._last_id, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._last_id:
                assert "error" not in answer, (method, answer)
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def open(self, page: Path) -> None:
        """Opens a file unless it is the one that is open: see `load`."""
        if self.shown != page.as_uri():
            self.load(page)

    def load(self, page: Path) -> None:
        """Opens a file and waits until it has loaded and its figures are drawn."""
        self.events.clear()
        self.shown = page.as_uri()
        self.call("Page.navigate", url=page.as_uri())
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while self.evaluate("document.readyState + location.protocol") != "completefile:":
            assert time.monotonic() < deadline, f"{page} did not load"
            time.sleep(0.05)
        self.settle()

    def settle(self) -> None:
        """Waits until what follows a change of size or colours is done."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        if self.runs_scripts:
            self.call("Runtime.evaluate", expression=_TWO_FRAMES, awaitPromise=True)
            while not self.evaluate(_FITTED) and time.monotonic() < deadline:  # a test says what does not fit
                time.sleep(0.02)
        self.call("Page.getLayoutMetrics")

    def show(self, *, width: int, height: int = 900, is_dark: bool = False, media: str = "") -> None:
        """Sets the window's size in CSS pixels, the colour scheme and the medium ("": as it is)."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = "dark" if is_dark else "light"
        self.call(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        self.settle()

    def evaluate(self, expression: str) -> Any:
        """Gives the value of a JavaScript expression on the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Presses a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)

    def run_scripts(self, allowed: bool) -> None:
        """Lets pages opened from now on run scripts, or not."""
        self.call("Emulation.setScriptExecutionDisabled", value=not allowed)
        self.runs_scripts = allowed

    def roles(self) -> dict[str, list[str]]:
        """Gives the names of what a screen reader meets on the page, by role."""
        found: dict[str, list[str]] = {}
        for node in self.call("Accessibility.getFullAXTree")["nodes"]:
            if not node.get("ignored"):
                name = node.get("name", {}).get("value", "")
                found.setdefault(node["role"]["value"], []).append(name)
        return found

    def troubles(self) -> list[str]:
        """Gives what the page has complained about since it was opened, and what it asked the network for."""
        said = []
        for event in self.events:
            parameters = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                said.append(str(parameters["exceptionDetails"]))
            elif event.get("method") == "Log.entryAdded":
                said.append(parameters["entry"]["text"])
            elif event.get("method") == "Network.requestWillBeSent" and parameters["type"] != "Document":
                said.append(parameters["request"]["url"][:200])
        return said

    def photograph(self, path: Path) -> None:
        """Saves a picture of the whole page, not only of what the window shows."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        answer = self.call(
            "Page.captureScreenshot",
            captureBeyondViewport=True,
            optimizeForSpeed=True,
            clip={"x": 0, "y": 0, "scale": 1, **_extent(size)},
        )
        path.write_bytes(base64.b64decode(answer["data"]))

    def print_to(self, path: Path) -> None:
        """Prints the page as a PDF file."""
        answer = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            ready, _, _ = select.select([self.from_browser], [], [], _TIMEOUT_SECONDS)
            assert ready, "the browser does not answer"
            received = os.read(self.from_browser, 1 << 20)
            assert received, "the browser has gone"
            self._received += received
        message, _, rest = self._received.partition(b"\0")
        self._received = bytearray(rest)
        answer: dict[str, Any] = json.loads(bytes(message))
        return answer


@contextmanager
def chromium(binary: str, profile: Path) -> Iterator[Chromium]:
    """Runs a browser with an empty profile that can reach no host."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    command = [
        *(sys.executable, "-c", _START, str(to_read), str(from_write)),
        binary,
        "--headless",
        "--remote-debugging-pipe",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={profile}",
    ]
    process = subprocess.Popen(
        command, pass_fds=(to_read, from_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(to_read)
    os.close(from_write)
    try:
        browser = Chromium(to_browser=to_write, from_browser=from_read)
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        browser.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
            browser.call(f"{domain}.enable")
        yield browser
        browser.session = ""
        browser.call("Browser.close")
    finally:
        os.close(to_write)
        os.close(from_read)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        process.kill()
        process.wait()


def _extent(size: dict[str, float]) -> dict[str, float]:
    return {"width": size["width"], "height": size["height"]}
