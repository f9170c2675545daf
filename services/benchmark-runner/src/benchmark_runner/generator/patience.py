"""How long the generator waits for a server."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: to connect, between two chunks (the first included), and for a whole request."""

    connect: float = 5.0
    idle: float = 60.0
    total: float = 600.0
