"""What a model is: its shape and bytes, read from files, from a request, or from the catalogue."""
