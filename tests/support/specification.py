"""The user's specification, as data: its code blocks, curl commands and JSON bodies."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent.parent / "data" / "distributed-compute-services.md"
ORIGINAL = PATH.parents[3] / "shared" / "spec" / PATH.name  # beside the clone, where there is one
_BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
_REQUEST = re.compile(
    r"^(GET|POST|DELETE) http://localhost:(\d+)(/\S+)\n(\{.*?^\})?", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Request:
    """One request the specification prints."""

    method: str
    port: int
    path: str
    body: dict[str, Any] | None


def blocks(language: str) -> list[str]:
    """Every fenced block of a language, in order."""
    return [text for kind, text in _BLOCK.findall(PATH.read_text()) if kind == language]


def python_block(function: str) -> str:
    """The Python block that defines `function`."""
    return next(text for text in blocks("python") if f"def {function}" in text)


def listed_requests() -> list[Request]:
    """The `METHOD URL {json}` listings of the services, ellipses filled with an example."""
    found = []
    for text in blocks("bash"):
        for method, port, path, body in _REQUEST.findall(text):
            filled = body.replace("{...}", '{"prompt": "hello", "max_tokens": 4}')
            found.append(Request(method, int(port), path, json.loads(filled) if filled else None))
    return found


def curl_requests() -> list[Request]:
    """The curl command lines, parsed."""
    found: list[Request] = []
    for text in blocks("bash"):
        joined = text.replace("\\\n", " ")
        found += [_parse_curl(line) for line in logical_lines(joined) if line.startswith("curl ")]
    return found


def nats_commands() -> list[list[str]]:
    """The `nats …` command lines as argv."""
    lines = (line for text in blocks("bash") for line in text.splitlines())
    return [shlex.split(line) for line in lines if line.startswith("nats ")]


def chapter_commands(heading: str) -> list[str]:
    """The command lines under one `###` heading, comments left out."""
    text = PATH.read_text().partition(f"### {heading}\n")[2].partition("\n##")[0]
    lines = (line for _language, block in _BLOCK.findall(text) for line in block.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def environment_block() -> str:
    """The block of variables for `env.shared`."""
    return next(text for text in blocks("bash") if "WORK_RETRY_MAX" in text)


def logical_lines(text: str) -> list[str]:
    """Lines, where an open single quote continues on the next one."""
    lines: list[str] = []
    pending = ""
    for line in text.splitlines():
        pending = f"{pending}\n{line}" if pending else line
        if pending.count("'") % 2 == 0:
            lines.append(pending.strip())
            pending = ""
    return lines


def _parse_curl(line: str) -> Request:
    argv = shlex.split(line, comments=True)[1:]
    method, url, body = "GET", "", None
    while argv:
        word = argv.pop(0)
        if word == "-X":
            method = argv.pop(0)
        elif word == "-H":
            argv.pop(0)
        elif word == "-d":
            body = json.loads(argv.pop(0))
        else:
            url = word
    address = re.fullmatch(r"http://localhost:(\d+)(/.*)", url)
    assert address is not None, url
    return Request(method, int(address[1]), address[2], body)
