"""A server that must never be reached, or only to be told elsewhere."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Trap:
    """Counts who comes; with `sends_to` it redirects everybody there."""

    sends_to: str = ""
    port: int = 0
    visits: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def set(self) -> AsyncIterator["Trap"]:
        async def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            self.visits.append(head.split(b"\r\n")[0].decode())
            status = f"307 Temporary Redirect\r\nLocation: {self.sends_to}" if self.sends_to else "200 OK"
            body = json.dumps({"data": [{"id": "tiny"}]})
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            writer.close()

        server = await asyncio.start_server(visited, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    def spellings(self) -> list[str]:
        """Addresses that would reach this server, or a cloud's credentials, and may not be asked."""
        return [
            f"http://2130706433:{self.port}/v1",
            f"http://0x7f000001:{self.port}/v1",
            f"http://0177.0.0.1:{self.port}/v1",
            f"http://127.1:{self.port}/v1",
            f"http://user@127.0.0.1:{self.port}/v1",
            f"http://127.0.0.1:{self.port}/v1?x=",
            f"http://127.0.0.1:{self.port}/#x",
            "http://169.254.169.254/latest/meta-data",
            "http://[::ffff:169.254.169.254]/v1",
            "http://[fe80::1]/v1",
            "http://metadata.google.internal/computeMetadata/v1",
            "http://evil.example/v1",
            "file:///etc/passwd",
        ]


def instance(name: str, api: str, node_id: str) -> dict[str, Any]:
    """A ready instance as a host tells it."""
    sizes = ("weights_mb", "kv_cache_mb", "activations_mb", "overhead_mb", "total_mb", "kv_cache_tokens")
    return {
        "instance_name": name,
        "instance_id": name,
        "model_name": "tiny",
        "served_names": [name, "tiny"],
        "status": "ready",
        "engine": "llama_cpp",
        "strategy": "CPU",
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "placement": [{"node_id": node_id, "gpu_indices": [], "reserved_mb": 1}],
        "memory": {**dict.fromkeys(sizes, 1), "source": "test"},
        "endpoints": {"api": api, "metrics": api, "health": api},
        "explanation": "test",
        "node_id": node_id,
        "created_at": "2026-11-01T00:00:00Z",
    }
