"""The listening page in headless Chromium: load, choose, separate, look, play, and bring a recording."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[4]
PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--window-size=1440,1000",
    "--remote-debugging-pipe",
)
CHOOSE = """async (id, text) => {  // the first option that begins with the text
  const input = document.querySelector(`#${id} input`);
  input.focus();
  input.click();
  for (let i = 0; i < 100; i++) {
    const options = [...document.querySelectorAll("ul[role=listbox] li")];
    const option = options.find(li => li.getAttribute("aria-label").startsWith(text));
    if (option) {
      option.dispatchEvent(new MouseEvent("mousedown", {bubbles: true, cancelable: true}));
      input.blur();
      return input.value;
    }
    await new Promise(resolve => setTimeout(resolve, 50));
  }
  throw new Error(`${id} does not offer ${text}`);
}"""
PLAYERS = "[...document.querySelectorAll('.listening audio')]"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium"),
]


class Browser:
    """A page in headless Chromium, driven by the DevTools protocol over a pipe (messages end with a zero byte)."""

    def __init__(self, profile: Path) -> None:
        to_browser, from_browser = os.pipe(), os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_browser[0], from_browser[1])]
        self.process = subprocess.Popen(
            [str(PROGRAM), *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=lambda: [os.dup2(end, number) for number, end in enumerate(ends, start=3)],
            pass_fds=(3, 4),  # where Chromium reads and writes
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (*ends, to_browser[0], from_browser[1]):
            os.close(end)
        self.writer, self.reader = to_browser[1], from_browser[0]
        self.received, self.n_calls = b"", 0
        self.events: list[dict[str, Any]] = []
        self.page: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.page = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.n_calls += 1
        message = {"id": self.n_calls, "method": method, "params": parameters, **self.page}
        os.write(self.writer, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self.n_calls:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self.received:
            assert select.select([self.reader], [], [], 60)[0], "the browser is silent"
            part = os.read(self.reader, 1 << 16)
            assert part, "the browser has ended"
            self.received += part
        message, self.received = self.received.split(b"\0", 1)
        return json.loads(message)

    def run(self, expression: str) -> Any:
        """Value of a JavaScript expression; a promise is awaited."""
        options = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = self.call("Runtime.evaluate", expression=expression, **options)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str, timeout_s: float = 60.0) -> None:
        end = time.monotonic() + timeout_s
        while not self.run(f"!!({condition})"):
            assert time.monotonic() < end, f"{condition}\n{self.run('document.body.innerText')}"
            time.sleep(0.1)

    def choose(self, dropdown: str, text: str) -> None:
        self.run(f"({CHOOSE})({json.dumps(dropdown)}, {json.dumps(text)})")

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def open_recording(self) -> None:
        tabs = "[...document.querySelectorAll('button[role=tab]')]"
        self.run(f"{tabs}.find(tab => tab.innerText.includes('recording')).click()")
        self.wait("document.querySelector('#recording input[type=file]')")

    def give_file(self, selector: str, path: Path) -> None:
        document = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def errors(self) -> list[dict[str, Any]]:
        """Console errors and uncaught exceptions so far."""
        self.run("0")  # events that are under way arrive before this answer
        consoles = [e["params"] for e in self.events if e.get("method") == "Runtime.consoleAPICalled"]
        logs = [e["params"]["entry"] for e in self.events if e.get("method") == "Log.entryAdded"]
        thrown = [e["params"] for e in self.events if e.get("method") == "Runtime.exceptionThrown"]
        return [c for c in consoles if c["type"] == "error"] + [x for x in logs if x["level"] == "error"] + thrown

    def foreign_requests(self) -> list[str]:
        """Addresses outside of this machine that the page asked for."""
        sent = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith(("http://127.0.0.1", "data:", "blob:"))]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        os.close(self.writer)
        os.close(self.reader)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def address(tiny_run, tmp_path_factory):
    """`scripts/results/listen.py` on the logs of the tiny run; ends as by `kill` and must leave nothing behind."""
    temporary = tmp_path_factory.mktemp("temporary")
    script = [sys.executable, str(ROOT / "scripts" / "results" / "listen.py"), "--logs", str(tiny_run.parents[1])]
    environment = {**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    command = [*script, "--port", str(free_port())]
    with (temporary.parent / "server.log").open("w+") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        end = time.monotonic() + 120
        while "Listen at" not in (text := Path(output.name).read_text()):
            assert process.poll() is None, text
            assert time.monotonic() < end, text
            time.sleep(0.1)
        yield text.split("Listen at ")[1].split()[0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, Path(output.name).read_text()
    assert not list(temporary.glob("hydraudio_listen_*"))


@pytest.fixture
def browser(address, tmp_path):
    browser = Browser(tmp_path / "profile")
    try:
        browser.call("Page.navigate", url=address)
        browser.wait("document.querySelector('#item input')?.value", 120)
        yield browser
    finally:
        browser.close()


def test_choose_separate_look_and_play(browser, tmp_path):
    browser.choose("checkpoint", "tiny · last")
    browser.wait("document.querySelector('#checkpoint input').value.startsWith('tiny · last')")
    time.sleep(2)  # the corpus of the checkpoint is offered again
    browser.choose("group", "ER")
    browser.wait("document.querySelector('#group input').value === 'ER'")
    browser.click("#run-item")  # perhaps before the items of the variant have come
    browser.wait(f"{PLAYERS}.length === 5 && {PLAYERS}.every(player => player.duration === 1)")
    details = browser.run("document.querySelector('#result .head .note').innerText")
    assert details.startswith("ER · SB · 1.00 s at 8000 Hz")
    images = "[...document.querySelectorAll('.listening img')]"
    for width, height, shown in browser.run(f"{images}.map(i => [i.naturalWidth, i.naturalHeight, i.clientWidth])"):
        assert width > 100
        assert height == 129
        assert shown > 400
    browser.run(f"{PLAYERS}[0].play()")
    browser.wait(f"{PLAYERS}[0].currentTime > 0.2")
    browser.run(f"{PLAYERS}[2].play()")  # goes on where the first one was, and stops it
    assert browser.run(f"[{PLAYERS}[0].paused, {PLAYERS}[2].currentTime > 0.15]") == [True, True]
    browser.wait(f"parseFloat({PLAYERS}[2].closest('.signal').querySelector('.cursor').style.left) > 30")
    browser.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 30_000
    assert not browser.run("document.querySelector('.toast-wrap')?.innerText")
    assert browser.errors() == []
    assert browser.foreign_requests() == []


def test_a_file_and_a_faulty_one(browser, tmp_path):
    noise = 0.1 * np.random.default_rng(0).standard_normal((48000, 2))
    soundfile.write(tmp_path / "own.wav", noise, 48000, subtype="PCM_16")
    browser.open_recording()
    browser.click("#run-file")
    browser.wait("document.querySelector('[role=alert]')?.innerText.includes('there is no recording')")
    browser.give_file("#recording input[type=file]", tmp_path / "own.wav")
    browser.wait("document.querySelector('#recording .waveform-container, #recording [data-testid^=waveform]')")
    browser.click("#run-file")
    browser.wait(f"{PLAYERS}.filter(player => player.duration === 1).length === 3")
    assert "Resampled from 48000 Hz" in browser.run("document.querySelector('#result').innerText")
    assert browser.errors() == []


def test_microphone(browser):
    """Chromium's own fake device, which beeps."""
    browser.open_recording()
    browser.click("#recording button[aria-label='Record audio']")
    browser.wait("document.querySelector('#recording .record-button')")
    browser.click("#recording .record-button")
    browser.wait("document.querySelector('#recording .stop-button')?.offsetParent")
    time.sleep(1.5)  # of sound
    browser.click("#recording .stop-button")
    for _ in range(20):  # until the recording has been handed over
        browser.click("#run-file")
        time.sleep(1)
        if browser.run(f"{PLAYERS}.filter(player => player.duration > 1).length") == 3:
            break
    assert "to the network's 8000 Hz" in browser.run("document.querySelector('#result').innerText")
    assert browser.errors() == []
