"""A TCP proxy on loopback that cuts connections and delays what passes."""

import asyncio
import contextlib

from compute_common.tasks import end_tasks


class Proxy:
    """`delay_seconds` is added to every piece, in each direction."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._is_cut = False
        self.delay_seconds = 0.0
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        await end_tasks(self._open)

    async def cut(self, seconds: float) -> None:
        """Break every connection, and take none for so long."""
        await self.down()
        await asyncio.sleep(seconds)
        self.up()

    async def down(self) -> None:
        self._is_cut = True
        await end_tasks(self._open)

    def up(self) -> None:
        self._is_cut = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.close()
            return
        task = asyncio.create_task(self._carry(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        pumps: list[asyncio.Task[None]] = []
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            ends.append(far_writer)
            pairs = ((reader, far_writer), (far_reader, writer))
            pumps = [asyncio.create_task(self._pump(*pair)) for pair in pairs]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            return
        finally:
            for end in ends:
                end.close()
            await end_tasks(pumps)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                writer.write(data)
                await writer.drain()
