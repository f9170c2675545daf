"""Back-up and restore: the JetStream streams and the state files of one COMPUTE_HOME, in one archive."""
