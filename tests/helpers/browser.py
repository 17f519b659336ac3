"""A real browser for tests, driven by WebDriver (W3C): Debian's packages chromium and chromium-driver.

`axe` finds faults of accessibility with axe-core, which `make axe` fetches with npm.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
AXE = Path(os.environ.get("CL_SEMISUP_AXE") or Path(__file__).parents[2] / ".axe/node_modules/axe-core/axe.min.js")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs the packages chromium and chromium-driver")


class Browser:
    """One session of WebDriver (W3C) with a page open."""

    def __init__(self, port: int, profile: Path):
        self.address = f"http://127.0.0.1:{port}"
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "binary": CHROMIUM}
        logs = {"browser": "ALL", "performance": "ALL"}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logs}
        made = self._post("/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"/session/{made['sessionId']}"

    def line_ends(self, selector: str) -> str:
        """The characters at which the lines of these elements end, but for each element's last line."""
        script = """
            const ends = [];
            for (const part of document.querySelectorAll(SELECTOR)) {
                const texts = document.createTreeWalker(part, NodeFilter.SHOW_TEXT), one = document.createRange();
                for (let node, top, last; node = texts.nextNode();)
                    for (let i = 0; i < node.data.length; i++) {
                        one.setStart(node, i); one.setEnd(node, i + 1);
                        const box = one.getBoundingClientRect();
                        if (!box.height) continue;
                        if (box.top > top + 5) ends.push(last);
                        top = box.top; last = node.data[i];
                    }
            }
            return ends.join('');
        """
        return str(self.run(script.replace("SELECTOR", json.dumps(selector))))

    def open(self, path: Path) -> None:
        self._post(f"{self.session}/url", {"url": path.resolve().as_uri()})

    def run(self, script: str) -> Any:
        """What a script's `return` gives."""
        return self._post(f"{self.session}/execute/sync", {"script": script, "args": []})

    def log(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._post(f"{self.session}/se/log", {"type": kind})
        return found

    def resize(self, width: int, height: int) -> None:
        """The page's own width: a window has a smallest one."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._command("Emulation.setDeviceMetricsOverride", metrics)

    def theme(self, name: str) -> None:
        """`light` or `dark`, as the reader's system asks for it."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self._command("Emulation.setEmulatedMedia", {"features": features})

    def press(self, key: str, text: str = "") -> None:
        """A key of the keyboard, by the name that its event has."""
        what: dict[str, Any] = {
            "type": "keyDown",
            "key": key,
            "code": key,
            "text": text or ("\r" if key == "Enter" else ""),
        }
        what |= {"windowsVirtualKeyCode": {"Tab": 9, "Enter": 13}.get(key, 0)}
        self._command("Input.dispatchKeyEvent", what)
        self._command("Input.dispatchKeyEvent", {"type": "keyUp", "key": key, "code": key})

    def axe(self) -> list[str]:
        """Faults that axe-core calls serious or critical; skips the test where axe-core is not there."""
        if not AXE.is_file():
            pytest.skip("axe-core is not there: `make axe` fetches it with npm")
        self._command("Runtime.evaluate", {"expression": AXE.read_text("utf-8")})
        script = """
            const done = arguments[arguments.length - 1];
            axe.run(document, {resultTypes: ["violations"]}).then((found) => done(found.violations
                .filter((one) => ["serious", "critical"].includes(one.impact))
                .map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => node.html).join(" ")}`)));
        """
        found: list[str] = self._post(f"{self.session}/execute/async", {"script": script, "args": []})
        return found

    def _command(self, name: str, parameters: dict[str, Any]) -> None:
        """Of the DevTools protocol."""
        self._post(f"{self.session}/goog/cdp/execute", {"cmd": name, "params": parameters})

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]


@contextmanager
def driven(profile: Path) -> Iterator[Browser]:
    """A browser with nothing open, for as long as the context lasts."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen([str(DRIVER), f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        opened = _start(port, profile)
        yield opened
        urllib.request.urlopen(urllib.request.Request(opened.address + opened.session, method="DELETE"), timeout=60)
    finally:
        driver.terminate()
        driver.wait(30)


def _start(port: int, profile: Path) -> Browser:
    for _ in range(100):
        try:
            return Browser(port, profile)
        except urllib.error.HTTPError as error:
            pytest.fail(f"chromium does not start: {error.read().decode()[:500]}")
        except urllib.error.URLError:
            time.sleep(0.1)  # the driver is not listening yet
    pytest.fail("chromedriver does not listen")
