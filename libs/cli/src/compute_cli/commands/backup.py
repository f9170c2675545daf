"""`compute backup` and `compute restore`."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from compute_cli.backup.archive import ArchiveError
from compute_cli.backup.job import BackupError, back_up, put_back
from compute_cli.backup.streams import StreamError
from compute_cli.console import AsJson, fail, say, show
from compute_cli.suite import running_suite, suite_from

Archive = Annotated[Path, typer.Argument(metavar="FILE", help="The archive, e.g. compute-backup.tar.gz.")]


def backup(file: Archive, as_json: AsJson = False) -> None:
    """Back up a running suite: work, nodes, instances, the ledger, keys, results; not models, not logs."""
    suite = suite_from(os.environ)
    say(f"backing up {suite.home} and {suite.nats_url}")
    try:
        answer = asyncio.run(back_up(suite, os.environ, file.resolve()))
    except (BackupError, ArchiveError, StreamError, OSError) as error:
        raise fail(str(error)) from error
    show(answer, as_json, _told)


def restore(
    file: Archive,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite the state that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a back-up where the suite will find it at its next start; the suite must be down."""
    suite = suite_from(os.environ)
    if running_suite(suite.home):
        raise fail("the suite is up: `compute down` ends it, then restore")
    say(f"restoring {file} into {suite.home}")
    try:
        answer = asyncio.run(put_back(suite, os.environ, file, replace=replace))
    except (BackupError, ArchiveError, StreamError, OSError) as error:
        raise fail(str(error)) from error
    show(answer, as_json, _told)


def _told(answer: dict[str, Any]) -> str:
    streams = ", ".join(f"{name} ({count})" for name, count in answer["streams"].items())
    return f"{answer['archive']}: {answer['files']} files; streams with their messages: {streams or 'none'}"
