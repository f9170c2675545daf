"""Back-up of a running suite, and restore into an empty COMPUTE_HOME."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError

from compute_cli import nats_server
from compute_cli.backup import archive, streams
from compute_cli.suite import Suite
from compute_common import __version__
from compute_common.bus_auth import NatsSettings, connect_options
from compute_common.times import rfc3339, utc_now

OURS = ("COMPUTE_WORK", "KV_", "OBJ_")
CONNECT_SECONDS = 10.0


class BackupError(Exception):
    """What stands in the way, and what to do."""


async def back_up(suite: Suite, environ: Mapping[str, str], target: Path) -> dict[str, Any]:
    """Everything but models, logs and benchmarks' engines into `target`; what went in."""
    with TemporaryDirectory(dir=target.parent, prefix=".backup-") as name:
        folder = Path(name)
        (folder / "streams").mkdir()
        told = []
        async with _connected(suite, environ) as server:
            for number, stream in enumerate(await streams.stream_names(server)):
                if stream.startswith(OURS):
                    path = f"streams/{number}.snapshot"
                    told.append({**await streams.snapshot(server, stream, folder / path), "file": path})
        files = await asyncio.to_thread(archive.gather, suite.home, folder / "files")
        manifest = {
            "format": archive.FORMAT,
            "version": __version__,
            "made_at": rfc3339(utc_now()),
            "streams": told,
            "files": files,
        }
        await asyncio.to_thread(archive.pack, folder, manifest, target)
    return _summary(manifest, target)


async def put_back(
    suite: Suite, environ: Mapping[str, str], source: Path, *, replace: bool
) -> dict[str, Any]:
    """Restore `source`; with `replace` what is there goes. The suite must be down.

    With a NATS server of our own it is started for this; else the one at NATS_URL is used.
    """
    suite.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with TemporaryDirectory(dir=suite.home, prefix=".restore-") as name:
        folder = Path(name)
        manifest = await asyncio.to_thread(archive.unpack, source, folder)
        held = [top for top in sorted(archive.KEPT) if (suite.home / top).exists()]
        if held and not replace:
            raise BackupError(f"{suite.home} has state ({', '.join(held)}): --replace overwrites it")
        (folder / "files").mkdir(exist_ok=True)
        await asyncio.to_thread(archive.put_back, folder / "files", manifest["files"], suite.home)
        async with _own_server(suite), _connected(suite, environ) as server:
            await _streams_back(server, manifest["streams"], folder, replace=replace)
    return _summary(manifest, source)


async def _streams_back(server: Client, told: list[dict[str, Any]], folder: Path, *, replace: bool) -> None:
    there = set(await streams.stream_names(server))
    wanted = {stream["config"]["name"] for stream in told}
    if (clash := there & wanted) and not replace:
        raise BackupError(f"the server has {', '.join(sorted(clash))}: --replace overwrites them")
    for name in sorted(clash):
        await streams.remove(server, name)
    for stream in told:
        file = folder / "streams" / Path(stream["file"]).name
        await streams.restore(server, stream, file)


@asynccontextmanager
async def _connected(suite: Suite, environ: Mapping[str, str]) -> AsyncIterator[Client]:
    settings = NatsSettings(NATS_URL=suite.nats_url)
    login = connect_options(settings)
    if suite.nats_port is not None and nats_server.wants_login(suite.nats_host, environ):
        own = nats_server.shared_login(suite.home)
        login = {"user": own["NATS_USER"], "password": own["NATS_PASSWORD"]}
    try:
        client = await nats.connect(
            settings.server_list, allow_reconnect=False, connect_timeout=CONNECT_SECONDS, **login
        )
    except (OSError, NatsError, TimeoutError) as error:
        raise BackupError(f"no NATS server answers at {settings.safe_url}: is the suite up?") from error
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def _own_server(suite: Suite) -> AsyncIterator[None]:
    """Our embedded server for as long as this takes; nothing where NATS_URL names another one."""
    if suite.nats_port is None:
        yield
        return
    process = nats_server.start(suite.home, suite.nats_port, suite.home / "logs" / "nats.log")
    try:
        await _listening(suite.nats_port)
        yield
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 10)


async def _listening(port: int) -> None:
    for _ in range(100):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            return
    raise BackupError(f"nats-server did not start on port {port}; its log says why")


def _summary(manifest: dict[str, Any], path: Path) -> dict[str, Any]:
    return {
        "archive": str(path),
        "version": manifest["version"],
        "made_at": manifest["made_at"],
        "streams": {each["config"]["name"]: each["state"].get("messages", 0) for each in manifest["streams"]},
        "files": len(manifest["files"]),
    }
