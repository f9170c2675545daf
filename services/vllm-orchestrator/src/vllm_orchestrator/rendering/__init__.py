"""A plan as an engine's argv and as a compose document."""
