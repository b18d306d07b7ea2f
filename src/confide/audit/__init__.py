"""Scores attacks against the truth and says what that shows, with how much certainty."""
