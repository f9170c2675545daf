"""The three dashboards, as Python."""
