"""Getting a model's files: from another node of the cluster, else from the Hub, whole or not at all."""
