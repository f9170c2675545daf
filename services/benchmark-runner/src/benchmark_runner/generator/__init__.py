"""The load generator: a process of its own, so that nothing the service does delays a send or a stamp.

It imports neither pydantic nor an HTTP library: it starts in a tenth of a second and needs few
microseconds a token.
"""
