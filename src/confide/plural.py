"""Numbers with what they count, for sentences."""


def plural(count: int, noun: str) -> str:
    """Writes "1 record", "24 records", "1,024 records"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
