"""What tests of transports share."""

import pytest


@pytest.fixture
def flower_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Flower's processes set before an app runs; no message can be made without it."""
    for name in ("task_id", "run_id", "node_id"):
        monkeypatch.setattr(f"flwr.supercore.task_identity.TaskIdentity._{name}", 1)
