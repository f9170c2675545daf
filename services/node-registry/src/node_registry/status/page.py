"""The status page: one file without data, whose policy allows exactly its own script and style."""

import re
from dataclasses import dataclass
from importlib.resources import files

from compute_common.shell.browsers import page_policy

_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Page:
    body: bytes
    headers: dict[str, str]


def status_page() -> Page:
    """What `GET /` answers."""
    text = (files("node_registry.status") / "page.html").read_text("utf-8")
    policy = page_policy(_SCRIPT.findall(text), _STYLE.findall(text), "connect-src 'self'")
    return Page(body=text.encode(), headers={"Content-Security-Policy": policy, "Cache-Control": "no-cache"})
