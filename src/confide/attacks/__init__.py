"""Attacks on what a federation shows: each takes a `View`, what one party sees, and never the truth it is scored by."""
