"""Membership: who takes part, who said what, and what a client has agreed to once and for all."""
