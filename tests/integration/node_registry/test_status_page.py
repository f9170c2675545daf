"""The status page in a real browser, in each of its states: on a desk and on a phone, light and dark."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from compute_common import subjects
from compute_common.access.api_keys import ApiKey, Scope, digest, new_token
from compute_common.access.key_file import change_keys
from compute_common.bus import Bus, Message
from compute_common.times import utc_now
from node_registry.service import NodeRegistry
from node_registry.settings import Settings
from tests.support.apps import serving
from tests.support.browser import Browser, Page, browsing, chromium
from tests.support.live import listening
from tests.support.nats import NatsServer

DESK, PHONE = 1280, 360
HOSTILE = '<img src=x onerror="document.title=1">'
BIDI = "\u202eevil\u202c" + "W" * 300
RTX = {"name": "NVIDIA GeForce RTX 4090", "vram_mb": 24564}
ROWS = "document.querySelectorAll('#tiers tbody tr').length"
FOCUS = """(() => {
  const at = document.activeElement, style = getComputedStyle(at);
  const seen = at.getBoundingClientRect().left >= 0;
  return [at.textContent, style.outlineStyle, parseFloat(style.outlineWidth) >= 2, seen];
})()"""
TEXT = "document.querySelector('main').innerText"


def registry(url: str, **more: object) -> NodeRegistry:
    return NodeRegistry(Settings.model_validate({"NATS_URL": url, "NATS_WAIT_SECONDS": 0.2, **more}))


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip("no Chromium here: `make test-deps` installs it")
    async with browsing(path, tmp_path / "browser") as started:
        yield started


async def check(page: Page, state: str, folder: Path, *, thorough: bool = False) -> None:
    """Laid out and built well, wide and narrow, dark and light; and there is something to see."""
    for width, dark in ((DESK, True), (PHONE, False), (PHONE, True), (DESK, False))[: 4 if thorough else 2]:
        await page.look(width=width, dark=dark)
        assert await page.audit() == [], (state, width, dark)
        picture = await page.screenshot(folder / f"{state}-{width}-{'dark' if dark else 'light'}.png")
        assert (picture.width, picture.height) == (width, 900)
        assert picture.different_rows > 60, f"{state} at {width} px looks blank"
    assert page.problems == []
    await page.look(width=DESK)


async def register(address: str, *nodes: dict[str, Any]) -> None:
    async with httpx.AsyncClient(base_url=address) as client:
        for node in nodes:
            answer = await client.post("/register", json={"heartbeat_seconds": 600, **node})
            assert answer.status_code == 200, answer.text


async def test_empty(nats_server: NatsServer, browser: Browser, tmp_path: Path) -> None:
    async with listening(registry(nats_server.url)) as address:
        page = await browser.page(address)
        await page.until("document.getElementById('link').textContent.startsWith('Live')")
        text = await page.run(TEXT)
        for words in (
            "No node has announced itself",
            "No model is deployed",
            "None.",
            "work marshaling does not answer",
        ):
            assert words in text
        stops = []
        for _ in range(4):  # every stop of the keyboard is seen
            await page.press("Tab")
            stops.append(await page.run(FOCUS))
        assert stops == [
            [name, "solid", True, True] for name in ("Skip to the nodes", "API", "Health", "Metrics")
        ]
        await page.run("document.activeElement.blur()")
        await check(page, "empty", tmp_path)
        loaded = await page.run("performance.getEntriesByType('resource').map(e => new URL(e.name).pathname)")
        assert set(loaded) <= {"/api/v1/overview", "/api/v1/overview/events"}, "nothing from elsewhere"


async def test_one_node_with_all_there_is_live_and_hostile(
    nats_server: NatsServer, bus: Bus, browser: Browser, tmp_path: Path
) -> None:
    used = 9000

    async def states(_body: Message) -> object:
        gpu = {"index": 0, "name": HOSTILE, "total_mb": 24564, "used_mb": used, "reserved_mb": 12000}
        sick = {
            "index": 1,
            "name": BIDI,
            "total_mb": 24564,
            "used_mb": 24500,
            "health": "lost",
            "cordoned": True,
        }
        return {"gpus": [{**gpu, "utilization": 0.42, "temperature_c": 61}, sick]}

    async def instances(_body: Message) -> object:
        failed = {"instance_name": HOSTILE, "model_name": BIDI, "status": "failed", "last_error": HOSTILE * 9}
        return {"instances": [failed]}

    async def statistics(_body: Message) -> object:
        return {"total_requests": 9, "pending": 1234, "assigned": 2, "completed": 3, "failed": HOSTILE}

    await bus.serve(subjects.gpu_subject("states", "box"), states)
    await bus.serve(subjects.vllm_subject("status", "box"), instances)
    await bus.serve(subjects.WORK_STATUS, statistics)
    await bus.flush()
    memory = {"total_gb": 64, "available_gb": 20}
    node = {"node_id": "box", "hostname": HOSTILE, "managed": True, "gpus": [RTX, RTX], "memory": memory}
    async with listening(registry(nats_server.url)) as address:
        await register(address, node)
        page = await browser.page(address)
        await page.until(f"{TEXT}.includes('8.8 GiB of 24.0 GiB')")
        text = await page.run(TEXT)
        for words in (
            HOSTILE,
            "1,234",
            "42 % busy",
            "61 °C",
            "lost",
            "cordoned",
            "RAM 44.0 GiB of 64.0 GiB",
            "failed",
        ):
            assert words in text
        assert await page.run("document.querySelectorAll('img').length") == 0
        warning = {"node_id": "box", "gpu_index": 0, "level": "critical", "previous_level": "ok"}
        soon = {"available_mb": 512, "predicted_oom_seconds": 240, "timestamp": "2026-11-23T00:00:00Z"}
        await page.run("window.kept = document.querySelector('#tiers tbody tr')")
        await bus.publish(subjects.GPU_MEMORY_WARNING, {**warning, **soon})
        await page.until("document.getElementById('warnings').innerText.includes('full in about 4 min')")
        live = "[...document.querySelectorAll('[aria-live]')].map(e => e.id)"
        assert await page.run(live) == ["warnings"], "nothing else is read out by itself"
        assert await page.run("kept.isConnected"), "a row that is as before is not drawn again"
        used = 20000
        await page.until(f"{TEXT}.includes('19.5 GiB of 24.0 GiB')")
        await check(page, "one", tmp_path, thorough=True)
        await page.look(width=PHONE)
        roles = await page.roles()
        assert {"table", "row", "rowheader", "cell", "columnheader", "main", "banner", "contentinfo"} <= set(
            roles
        )
        assert roles.count("table") == 2, "tables stay tables where they are laid out as blocks"


async def test_two_hundred_nodes(nats_server: NatsServer, browser: Browser, tmp_path: Path) -> None:
    nodes = [
        {
            "node_id": f"node-{number:03}",
            "hostname": f"node-{number:03}.cluster.example",
            "memory": {"total_gb": 64, "available_gb": number % 60},
            "gpus": [{**RTX, "index": index, "vram_used_mb": 97 * number} for index in range(number % 4)],
        }
        for number in range(200)
    ]
    async with listening(registry(nats_server.url)) as address:
        await register(address, *nodes)
        page = await browser.page(address)
        await page.until(f"{ROWS} === 200")
        titles = "[...document.querySelectorAll('#tiers h3')].map(e => e.textContent)"
        assert await page.run(titles) == ["GPU peers (150)", "Without a GPU (50)"]
        for tier in range(2):
            shown = await page.run(
                f"[...document.querySelectorAll('#tiers tbody')[{tier}].rows].map(r => r.dataset.node)"
            )
            assert shown == sorted(shown)
        await check(page, "two-hundred", tmp_path)
        async with httpx.AsyncClient(base_url=address) as client:
            await client.post("/heartbeat", json={"node_id": "node-150", "cpu_utilization": 0.77})
            await client.delete("/api/v1/nodes/node-007")
            await client.post("/register", json={"node_id": "node-0975", "hostname": "new"})
            await client.post("/api/v1/nodes/node-003/drain")
        await page.until(f"{TEXT}.includes('CPU 77 %') && {TEXT}.includes('draining')")
        await page.until("!document.querySelector('[data-node=node-007]')")
        after = "document.querySelector('[data-node=\"node-0975\"]').previousElementSibling.dataset.node"
        assert await page.run(after) < "node-0975"
        assert await page.run(ROWS) == 200


async def test_nats_down_and_back_then_the_registry_down(
    nats_server: NatsServer, browser: Browser, tmp_path: Path
) -> None:
    async with listening(registry(nats_server.url)) as address:
        await register(address, {"node_id": "box", "hostname": "box", "gpus": [RTX]})
        page = await browser.page(address)
        await page.until(f"{ROWS} === 1")
        nats_server.stop()
        warnings = "document.getElementById('warnings').innerText"
        await page.until(f"{warnings}.includes('no NATS')")
        assert "online" in await page.run("document.querySelector('#tiers tbody').innerText")
        assert "nats does not answer" in await page.run("document.getElementById('sources').innerText")
        await check(page, "no-nats", tmp_path)
        nats_server.start()
        await page.until(f"{warnings} === ''", seconds=15)
    await page.until(f"{warnings}.includes('has not answered since')")
    assert await page.run(ROWS) == 1, "what was last known stays"


async def test_polls_where_no_stream_is_to_be_had(
    nats_server: NatsServer, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node_registry.status.feed.MOST_LISTENERS", 0)
    async with listening(registry(nats_server.url)) as address:
        page = await browser.page(address)
        await page.until("document.getElementById('cluster').hidden === false")
        await page.until("document.getElementById('link').textContent.startsWith('Asking every')")
        await register(address, {"node_id": "box", "hostname": "box"})
        await page.run("poll()")  # as its timer does
        await page.until(f"{ROWS} === 1")


async def test_a_key_is_asked_for_once_and_kept_from_scripts(
    nats_server: NatsServer, browser: Browser, tmp_path: Path
) -> None:
    key_id, token = new_token()
    key = ApiKey(key_id=key_id, scope=Scope.READ, sha256=digest(token), created_at=utc_now())
    path = tmp_path / "keys.json"
    change_keys(path, lambda keys: [*keys, key])
    async with listening(registry(nats_server.url, COMPUTE_API_KEYS_FILE=path)) as address:
        page = await browser.page(address)
        await page.until("document.activeElement.id === 'token'")
        assert not await page.run("document.getElementById('cluster').checkVisibility()")
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert await page.run(outline) == "solid"
        page.problems.clear()  # the console notes the 401
        await check(page, "key", tmp_path)
        await page.type("ck_wrong")
        await page.press("Enter")
        await page.until("document.getElementById('refused').textContent === 'This is no key of this host.'")
        await page.run("document.getElementById('token').select()")
        await page.type(token)
        for _ in range(2):  # by keyboard alone: to the button, and press it
            await page.press("Tab" if _ == 0 else "Enter")
        await page.until("document.getElementById('link').textContent.startsWith('Live')")
        held = "document.cookie + JSON.stringify({...localStorage}) + document.getElementById('token').value"
        assert await page.run(held) == '{"signed-in":"1"}'
        await page.ask("Page.reload")
        await page.until("document.getElementById('link').textContent.startsWith('Live')")
        refused = await page.run("fetch('/api/v1/nodes/x', {method: 'DELETE'}).then(a => a.status)")
        assert refused == 401, "the cookie reads and no more"
        await page.run("document.getElementById('sign-out').click()")
        await page.until("document.getElementById('key').checkVisibility()")
        assert await page.run("fetch('/api/v1/overview').then(a => a.status)") == 401


async def test_the_page_is_small_holds_no_data_and_allows_only_its_own_script(
    nats_server: NatsServer,
) -> None:
    async with serving(registry(nats_server.url)) as client:
        await client.post("/register", json={"node_id": "box-17", "hostname": "box"})
        answer = await client.get("/")
        assert answer.headers["content-type"].startswith("text/html")
        assert len(answer.content) < 40_000
        assert "box-17" not in answer.text
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert re.search(r"script-src 'sha256-[^ ]+';", policy)
        assert "default-src 'none'" in policy
        assert "connect-src 'self'" in policy
        addresses = re.findall(r"https?://[^\s'\"]+", answer.text)
        assert set(addresses) == {"http://www.w3.org/2000/svg"}, "nothing comes from elsewhere"
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", answer.text)
