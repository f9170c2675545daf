"""Bytes and names that mean harm, against the parsers and writers alone."""
