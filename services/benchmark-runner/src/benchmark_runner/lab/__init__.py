"""llama-throughput-lab: its sweep run as a program, its CSV read as cells."""
