"""Adapters: one file a source, each with its root directory as a parameter."""
