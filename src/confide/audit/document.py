"""What all parts of an audit's results share."""

from typing import Literal

from pydantic import ConfigDict

ViewKind = Literal["final", "client", "coalition", "server", "sealed-server"]

STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
"""Of every model: frozen, closed, and without NaN or infinity."""
