"""A headless Chromium, driven over its own protocol: pages are opened, clicked and looked at as people do.

Nothing but loopback can be reached from it. Without a Chromium the tests that need one are skipped, but not in CI, unless
CURATION_WITHOUT_BROWSER=1 says that the machine can have none.
"""

import json
import os
import shutil
import subprocess
import time
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
LAPTOP, PHONE = (1366, 850), (390, 844)
_START_SECONDS = 60


class Page:
    """An open page; `problems` are its errors on the console, and what its policy or the network refused."""

    def __init__(self, connection: ClientConnection) -> None:
        self.problems: list[str] = []
        self._connection = connection
        self._number = 0
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")

    def open(self, url: str, size: tuple[int, int] = LAPTOP, *, is_dark: bool = False) -> None:
        """Load `url` in a window of `size` px, and wait until it is drawn."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._ask("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        self.problems.clear()
        self._ask("Page.navigate", url=url)
        self.wait_for('document.readyState === "complete" && location.href !== "about:blank"')

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self._ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, condition: str, seconds: float = 30) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while True:
            with suppress(AssertionError):  # while one page gives way to another, there is nothing to ask
                if self.run(condition):
                    return
            assert time.monotonic() < end, f"in vain for {condition}; {self.problems}"
            time.sleep(0.02)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a <select>, as a person would."""
        self.run(
            f"(() => {{ const field = document.querySelector({json.dumps(selector)}); field.value = {json.dumps(value)}; "
            'field.dispatchEvent(new Event("change", {bubbles: true})); })()'
        )

    def press(self, key: str) -> None:
        """Press a key, such as Tab."""
        number = {"Tab": 9, "Enter": 13}[key]
        for kind in ("keyDown", "keyUp"):
            self._ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=number)

    def is_wider_than_its_window(self) -> bool:
        """Whether the page as a whole must be moved sideways."""
        return bool(self.run("document.documentElement.scrollWidth > window.innerWidth"))

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        found = self._ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(b64decode(found["data"]))

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._connection.recv(timeout=_START_SECONDS))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(told["exceptionDetails"]))
        elif event.get("method") == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
            self.problems.append(str(told["args"]))
        elif event.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.problems.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a running Chromium."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        message = f"no Chromium on this machine ({', '.join(NAMES)}); install one to look at the pages with"
        if os.environ.get("CI") and os.environ.get("CURATION_WITHOUT_BROWSER") != "1":
            pytest.fail(message)
        pytest.skip(message)
    profile = tmp_path_factory.mktemp("profile")
    command = [
        program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--remote-debugging-port=0", f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
        "about:blank",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield _port(profile / "DevToolsActivePort", process)
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def browser_page(chromium: int) -> Iterator[Page]:
    """A new page."""
    request = urllib.request.Request(f"http://127.0.0.1:{chromium}/json/new?about:blank", method="PUT")
    with urllib.request.urlopen(request) as answer:
        target = json.loads(answer.read())
    with connect(target["webSocketDebuggerUrl"], max_size=None, compression=None) as connection:
        yield Page(connection)
    urllib.request.urlopen(f"http://127.0.0.1:{chromium}/json/close/{target['id']}").close()


def _port(file: Path, process: "subprocess.Popen[bytes]") -> int:
    end = time.monotonic() + _START_SECONDS
    while not (file.exists() and file.read_text().strip()):
        assert process.poll() is None, "Chromium ended at once"
        assert time.monotonic() < end, "Chromium does not start"
        time.sleep(0.05)
    return int(file.read_text().split()[0])
