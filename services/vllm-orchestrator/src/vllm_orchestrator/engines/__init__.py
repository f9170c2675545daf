"""Engines as processes of this host: the binary, its port, its life, its readiness, its log."""
