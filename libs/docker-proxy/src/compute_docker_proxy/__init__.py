"""The only way from the vLLM orchestrator to Docker: a few questions, one shape of container."""
