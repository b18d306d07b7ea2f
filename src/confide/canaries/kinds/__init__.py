"""The kinds of canaries: one module each, made alike through `confide.canaries.kinds.kind`."""
