"""A headless Chromium, asked over its own pipe (DevTools protocol), so that a test needs no package to drive it."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--disable-dev-shm-usage"]

# DevTools reads from descriptor 3 and writes to 4
WIRE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One browser with one page.  ``complaints`` and ``requests`` are those since the page was opened."""

    def __init__(self, profile: Path) -> None:
        asked, answered = os.pipe(), os.pipe()
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (asked[0], answered[1])]  # clear of 3 and 4
        command = [sys.executable, "-c", WIRE, *map(str, theirs), CHROMIUM, *FLAGS, f"--user-data-dir={profile}"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([*command, "about:blank"], pass_fds=theirs, **quiet)
        for end in (asked[0], answered[1], *theirs):
            os.close(end)
        self._to, self._from = os.fdopen(asked[1], "wb"), os.fdopen(answered[0], "rb")
        self._number, self._rest, self._session = 0, b"", None
        self.complaints, self.requests, self._loaded = [], [], False
        target = next(t for t in self.ask("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        self.ask("Emulation.setFocusEmulationEnabled", enabled=True)  # as if its window were in front

    def ask(self, method, **parameters):
        """The answer to one command; what happens meanwhile is noted."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        self._to.write(
            json.dumps({"id": self._number, "method": method, "params": parameters, **session}).encode() + b"\0"
        )
        self._to.flush()
        while (message := self._next()).get("id") != self._number:
            self._note(message)
        assert "error" not in message, message
        return message["result"]

    def _next(self):
        while b"\0" not in self._rest:
            more = os.read(self._from.fileno(), 1 << 20)
            assert more, "the browser has ended"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, message):
        happened, about = message.get("method"), message.get("params", {})
        if happened == "Runtime.exceptionThrown":
            self.complaints.append(about["exceptionDetails"]["text"])
        elif happened == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(about["args"]))
        elif happened == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.complaints.append(about["entry"]["text"])
        elif happened == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif happened == "Page.loadEventFired":
            self._loaded = True

    def open(self, path, *, width=1280, height=900, dark=False):
        """Load a file, as wide as asked and in the reader's colours."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.complaints, self.requests, self._loaded = [], [], False
        self.ask("Page.navigate", url=Path(path).resolve().as_uri())
        while not self._loaded:
            self._note(self._next())
        return self

    def tell(self, script):
        """The value of a JavaScript expression, as JSON has it."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key):
        """Press and release one key."""
        codes = {"Tab": 9, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39}
        for kind in ("rawKeyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def point(self, selector):
        """Move the mouse over the middle of an element."""
        box = self.tell(
            f"(e => (e.scrollIntoView({{block: 'center'}}), (b => [b.x + b.width / 2, b.y + b.height / 2])"
            f"(e.getBoundingClientRect())))(document.querySelector({json.dumps(selector)}))"
        )
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])

    def picture(self, path, *, whole=True):
        """Save what the page looks like, by default all of it."""
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        Path(path).write_bytes(base64.b64decode(shot))

    def close(self):
        """End the browser."""
        self.ask("Browser.close")
        self._to.close()
        self._process.wait(timeout=20)
        self._from.close()
