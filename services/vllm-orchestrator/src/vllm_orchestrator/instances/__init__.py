"""Instances: their records, their life from deploy to stop, and what the cluster hears of them."""
