"""AIPerf as the load generator: its command line run as a program, its records read as raw samples."""
