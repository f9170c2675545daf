"""A real Chromium, driven over its debugging pipe: pages, keys, screenshots, the accessibility tree."""

import asyncio
import base64
import json
import os
import shutil
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.waiting import until

AUDIT = Path(__file__).with_name("page_audit.js").read_text("utf-8")
LONGEST_MESSAGE = 64 << 20
ANSWER_SECONDS = 20
# The descriptors that Chromium reads from and writes to are 3 and 4.
_WITH_PIPES = 'exec "${@:3}" 3<&"$1" 4>&"$2"'
KEYS = {"Tab": 9, "Enter": 13}


def chromium() -> str | None:
    """The browser's path, where there is one."""
    return shutil.which("chromium") or shutil.which("google-chrome")


class Browser:
    def __init__(self, reader: asyncio.StreamReader, write: int) -> None:
        self._reader = reader
        self._write = write
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._count = 0
        self.pages: dict[str, Page] = {}

    async def ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """One command of the DevTools protocol."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[self._count] = answer
        os.write(self._write, json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(ANSWER_SECONDS):
            return await answer

    async def listen(self) -> None:
        """Hand on what the browser says, until it ends."""
        while True:
            try:
                message = json.loads((await self._reader.readuntil(b"\0"))[:-1])
            except asyncio.IncompleteReadError:
                return
            answer = self._answers.pop(message.get("id", 0), None)
            if answer is not None:
                assert "error" not in message, message
                answer.set_result(message["result"])
            elif (page := self.pages.get(message.get("sessionId", ""))) is not None:
                page.heard(message)

    async def page(self, url: str, *, width: int = 1280, height: int = 900, dark: bool = False) -> "Page":
        """A page with cookies of its own, loaded."""
        context = (await self.ask("Target.createBrowserContext"))["browserContextId"]
        target = await self.ask("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = self.pages[attached["sessionId"]] = Page(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            await page.ask(f"{domain}.enable")
        await page.look(width=width, height=height, dark=dark)
        await page.ask("Page.navigate", url=url)
        await page.until("location.protocol !== 'about:' && document.readyState === 'complete'")
        return page


class Page:
    """`problems`: exceptions, and what the console complains of (a broken policy, say)."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.problems: list[str] = []

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return await self._browser.ask(method, self._session, **params)

    def heard(self, message: dict[str, Any]) -> None:
        if message["method"] == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(message["params"]["exceptionDetails"])[:500])
        if message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.problems.append(message["params"]["entry"]["text"])

    async def look(self, *, width: int, height: int = 900, dark: bool = False) -> None:
        """As wide as a screen, and as light or dark as its owner likes it."""
        await self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.ask("Emulation.setEmulatedMedia", features=[scheme])

    async def run(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        found = await self.ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def until(self, expression: str, seconds: float = 10) -> None:
        """Wait for a JavaScript expression to be true; parts of a page that loads may be missing."""
        tried = f"(() => {{ try {{ return {expression}; }} catch {{ return false; }} }})()"

        async def holds() -> bool:
            return bool(await self.run(tried))

        try:
            await until(holds, seconds)
        except TimeoutError:
            text = str(await self.run("document.body.innerText"))
            raise AssertionError(f"never true: {expression}\n{self.problems}\n{text[:2000]}") from None

    async def press(self, key: str) -> None:
        code = KEYS[key]
        same = {
            "key": key,
            "code": key,
            "windowsVirtualKeyCode": code,
            "text": "\r" if key == "Enter" else "",
        }
        await self.ask("Input.dispatchKeyEvent", type="keyDown", **same)
        await self.ask("Input.dispatchKeyEvent", type="keyUp", **same)

    async def type(self, text: str) -> None:
        await self.ask("Input.insertText", text=text)

    async def audit(self) -> list[str]:
        """What is wrong with how the page is built and laid out, one line each; see `page_audit.js`."""
        found: list[str] = await self.run(AUDIT)
        return found

    async def roles(self) -> list[str]:
        """The roles that a screen reader hears, in order."""
        nodes = (await self.ask("Accessibility.getFullAXTree"))["nodes"]
        return [node["role"]["value"] for node in nodes if not node.get("ignored") and "role" in node]

    async def screenshot(self, path: Path) -> "Picture":
        """What is seen, as PNG; kept at `path` for whoever looks at a failure."""
        data = base64.b64decode((await self.ask("Page.captureScreenshot", format="png"))["data"])
        await asyncio.to_thread(path.write_bytes, data)
        return Picture(data)


class Picture:
    """A PNG, as far as tests ask: its size and how many different rows of pixels it has."""

    def __init__(self, png: bytes) -> None:
        assert png.startswith(b"\x89PNG")
        self.width, self.height = int.from_bytes(png[16:20]), int.from_bytes(png[20:24])
        packed, place = b"", 8
        while place < len(png):
            length = int.from_bytes(png[place : place + 4])
            if png[place + 4 : place + 8] == b"IDAT":
                packed += png[place + 8 : place + 8 + length]
            place += length + 12
        pixels = zlib.decompress(packed)
        stride = len(pixels) // self.height
        self.different_rows = len(
            {pixels[row * stride + 1 : (row + 1) * stride] for row in range(self.height)}
        )


@asynccontextmanager
async def browsing(path: str, folder: Path) -> AsyncIterator[Browser]:
    """A browser while the block runs."""
    to_it, its_end = os.pipe()
    from_it, its_voice = os.pipe()
    argv = [path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    argv += ["--hide-scrollbars", f"--user-data-dir={folder}", "--remote-debugging-pipe"]
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", _WITH_PIPES, "browser", str(to_it), str(its_voice), *argv,
        pass_fds=(to_it, its_voice), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    os.close(to_it)
    os.close(its_voice)
    reader = asyncio.StreamReader(limit=LONGEST_MESSAGE)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: protocol, os.fdopen(from_it, "rb")
    )
    browser = Browser(reader, its_end)
    listener = asyncio.create_task(browser.listen())
    try:
        yield browser
        await browser.ask("Browser.close")
        async with asyncio.timeout(ANSWER_SECONDS):
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        listener.cancel()
        transport.close()
        os.close(its_end)
