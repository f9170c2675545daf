"""TensorZero as an optional neighbour: its gateway is told of every ready model by files."""
