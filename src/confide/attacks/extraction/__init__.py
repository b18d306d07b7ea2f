"""Attacks that get text out of a model, one per file; what they return is compared with the truth by `scoring` only."""
