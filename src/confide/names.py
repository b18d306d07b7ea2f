"""The names of clients: what can be one, and the name of a file that belongs to one."""

import hashlib
import re
import unicodedata

MAX_NAME_BYTES = 128

_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]*")
_MAX_FILE_CHARACTERS = 64
_MAX_READABLE_CHARACTERS = 32
_DIGEST_CHARACTERS = 16


def name_problem(name: str) -> str | None:
    """Says why a text cannot be a client's name; None if it can."""
    if not name or not name.isprintable() or name != name.strip():
        return "is not printable text without space at either end"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    if not unicodedata.is_normalized("NFC", name):
        return "is not in Unicode normal form C (NFC)"
    return None


def file_name(name: str) -> str:
    """Gives a name for a file or folder that belongs to whoever is called `name`.

    A short name of small ASCII letters, digits, "_" and "-" stands for itself. Of any other, what can be read of it in
    ASCII is followed by "~" and the start of its SHA-256; no plain name has a "~".

    Guarantees:
        - At most 64 characters that every file system takes, none of them a separator; never "." or "..".
        - Two names have two file names, also where a file system does not tell capitals from small letters. (Two names
          whose digests agree in 64 bits would share one; whoever reads a file checks the name inside.)
    """
    if _PLAIN.fullmatch(name) and len(name) <= _MAX_FILE_CHARACTERS:
        return name
    readable = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:_MAX_READABLE_CHARACTERS]
    return f"{readable}~{hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_CHARACTERS]}"
