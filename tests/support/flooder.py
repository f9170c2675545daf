"""`python -m tests.support.flooder HOST PORT USER PASSWORD SUBJECT SECONDS BODY`: a client that means harm.

Publishes as fast as a socket takes it, comes back at once when it is thrown out, and prints how many it sent.
"""

import json
import select
import socket
import sys
import time

AT_ONCE = 500


def flood(host: str, port: int, login: dict[str, str], message: bytes, until: float) -> int:
    """Messages sent on one connection before it was closed, or the time was over."""
    sent = 0
    with socket.create_connection((host, port)) as connection:
        connection.recv(4096)
        hello = {"verbose": False, "pedantic": False, "lang": "x", "version": "1", "protocol": 1, **login}
        connection.sendall(b"CONNECT " + json.dumps(hello).encode() + b"\r\n")
        while time.monotonic() < until:
            connection.sendall(message * AT_ONCE)
            sent += AT_ONCE
            if select.select([connection], [], [], 0)[0]:
                said = connection.recv(65_536)
                if not said or b"-ERR" in said:
                    break
                if b"PING" in said:
                    connection.sendall(b"PONG\r\n")
    return sent


def main() -> None:
    host, port, user, password, subject, seconds, body = sys.argv[1:]
    message = f"PUB {subject} {len(body)}\r\n{body}\r\n".encode()
    until = time.monotonic() + float(seconds)
    connections = []
    while time.monotonic() < until:
        try:
            connections.append(flood(host, int(port), {"user": user, "pass": password}, message, until))
        except OSError:
            connections.append(0)
        time.sleep(0.05)
    print(sum(connections))


if __name__ == "__main__":
    main()
