"""Prints docs/nats-subjects.md, or docs/asyncapi.yaml with `--asyncapi`, from scripts/wire/table.py."""

import re
import sys
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from compute_common import __version__
from scripts.wire.channel import Channel
from scripts.wire.table import GROUPS

Json = dict[str, Any]
HEADER = """\
# NATS subjects

Written by `make docs` from the same table as [asyncapi.yaml](asyncapi.yaml), which is for programs. A plain
core-NATS client can play every role with these messages alone. Messages are JSON; unknown fields are ignored
inbound. In a subject the `.` of an id is written `=2E`. A refused request is answered with the problem object
that REST would answer.
"""


def main() -> None:
    """Print one of the two."""
    print(asyncapi() if "--asyncapi" in sys.argv[1:] else markdown(), end="")


def markdown() -> str:
    """The whole text of docs/nats-subjects.md."""
    return "\n".join([HEADER, *(_group(title, note, channels) for title, note, channels in GROUPS)])


def _group(title: str, note: str, channels: tuple[Channel, ...]) -> str:
    lines = [
        f"## {title}\n",
        *([f"{note}\n"] if note else []),
        "| subject | from → to | record | means |",
        "|---|---|---|---|",
    ]
    for channel in channels:
        answer = f" → {channel.answer.__name__}" if channel.answer else ""
        record = f"{channel.record.__name__ if channel.record else '–'}{answer}"
        means = f"{channel.means} ({'internal' if channel.internal else channel.kind})"
        lines.append(f"| `{channel.subject}` | {channel.speaker} → {channel.listener} | {record} | {means} |")
    return "\n".join(lines) + "\n"


def asyncapi() -> str:
    """The whole text of docs/asyncapi.yaml: an AsyncAPI 3.0 document."""
    channels = [channel for _, _, group in GROUPS for channel in group]
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "compute",
            "version": __version__,
            "description": "The messages of the compute suite over NATS. Written by `make docs`.",
        },
        "defaultContentType": "application/json",
        "servers": {"local": {"host": "localhost:4222", "protocol": "nats"}},
        "channels": {_key(channel): _channel(channel) for channel in channels},
        "operations": {_key(channel): _operation(channel) for channel in channels},
        "components": {"schemas": _schemas(channels)},
    }
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110))


def _channel(channel: Channel) -> Json:
    described: Json = {
        "address": channel.subject,
        "description": channel.means,
        "messages": dict(_messages(channel)),
    }
    if "{node}" in channel.subject:
        described["parameters"] = {"node": {"description": "A node id, with `.` written `=2E`"}}
    return described


def _messages(channel: Channel) -> Iterator[tuple[str, Json]]:
    yield "message", {"payload": _payload(channel.record)}
    if channel.kind == "request":
        yield "answer", {"payload": _payload(channel.answer)}


def _operation(channel: Channel) -> Json:
    """From the view of a program that joins: what others may send is sent, the rest received."""
    sends = channel.kind == "request" or channel.speaker in {"anyone", "nodes", "that node"}
    where = f"#/channels/{_key(channel)}"
    operation: Json = {
        "action": "send" if sends else "receive",
        "channel": {"$ref": where},
        "summary": f"{channel.speaker} → {channel.listener}: {channel.means}",
        "messages": [{"$ref": f"{where}/messages/message"}],
    }
    if channel.kind == "request":
        operation["reply"] = {"messages": [{"$ref": f"{where}/messages/answer"}], "channel": {"$ref": where}}
    return operation


def _payload(record: type[BaseModel] | None) -> Json:
    return {"$ref": f"#/components/schemas/{record.__name__}"} if record else {"type": "object"}


def _schemas(channels: list[Channel]) -> Json:
    records = {r for channel in channels for r in (channel.record, channel.answer) if r is not None}
    ordered = sorted(records, key=lambda record: record.__name__)
    _, schema = models_json_schema(
        [(record, "validation") for record in ordered], ref_template="#/components/schemas/{model}"
    )
    return dict(sorted(schema["$defs"].items()))


def _key(channel: Channel) -> str:
    words: list[str] = re.findall(
        r"[a-z]+", channel.subject.removeprefix("compute.").replace(".v1", "").replace("{node}", "of-node")
    )
    return words[0] + "".join(word.title() for word in words[1:])


if __name__ == "__main__":
    main()
