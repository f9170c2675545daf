"""Input that means harm, against the real services."""
