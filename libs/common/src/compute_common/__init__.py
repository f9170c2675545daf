"""What the six services, the node program and the CLI share: the wire, the bus, the service shell."""

__version__ = "0.1.0"
