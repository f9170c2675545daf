"""The pure planner: which layout of a model fits where, and why not elsewhere."""
