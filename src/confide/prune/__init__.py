"""Pruning: how much of an update is dropped in a round, and which coordinates are kept."""
