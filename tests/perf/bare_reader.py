"""What a process that only reads and stamps pays for a chunk: `python -m … PORT TOKENS REQUESTS`.

One stream on a blocking socket, nothing parsed; prints microseconds of processor time a chunk.
"""

import gc
import json
import socket
import sys
import time


def microseconds(port: int, tokens: int, requests: int) -> float:
    """A chunk counts as a read: the two differ by a few in hundreds."""
    body = json.dumps({"max_tokens": tokens, "prompt": "x", "stream": True}).encode()
    request = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    stamps: list[float] = []
    with socket.create_connection(("127.0.0.1", port)) as server:
        gc.disable()
        used = time.process_time()
        for _ in range(requests):
            server.sendall(request)
            data = b""
            while not data.endswith(b"0\r\n\r\n"):
                data = server.recv(65536)
                if not data:
                    raise EOFError("the server left")
                stamps.append(time.perf_counter())
        return (time.process_time() - used) * 1e6 / len(stamps)


if __name__ == "__main__":
    print(round(microseconds(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])), 1))
