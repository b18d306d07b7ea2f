"""Coins that decide before training which records and canaries go in, so that an audit knows what it asks about."""
