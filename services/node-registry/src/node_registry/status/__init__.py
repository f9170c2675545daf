"""What an operator sees: a document about the cluster, its changes as a stream, the page that shows them."""
