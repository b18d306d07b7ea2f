"""Deployment: one server and its members on machines of their own, over Flower."""
