"""Nodes that have no business here, on a real SuperLink: they do not get in, and both sides' logs say so."""

import json
import re
from pathlib import Path

import pytest

from confide.deploy.certificates import KeyPlaces, make_authority
from tests.deploy.real import NAMES, Network, confide, needs_proc, processes_at, wait_for

pytestmark = [pytest.mark.slow, needs_proc]

FIRST, SECOND, THIRD = NAMES
SECONDS = 240.0


def test_a_node_that_is_not_registered_and_one_with_another_authority_do_not_get_in(tmp_path: Path) -> None:
    with Network(tmp_path, registered=(FIRST, THIRD)) as made:
        unregistered, misled = made.members[SECOND], made.members[THIRD]
        wait_for(lambda: "online" in _statuses(made), SECONDS, "the member that may come in", look_seconds=2.0)
        wait_for(
            lambda: re.search(r"\bExit Code: 305\b", unregistered.tail()) is not None,
            SECONDS,
            "the refusal of the unregistered member",
        )
        assert "[code: 2004] Failed to activate SuperNode" in unregistered.tail()
        wait_for(lambda: "CERTIFICATE_VERIFY_FAILED" in misled.tail(), SECONDS, "the refusal by the misled member")
        assert sorted(_statuses(made)) == ["online", "registered"]
        log = (made.home / "flower" / "superlink.log").read_text()
        assert "[/v1/fleet/activate-node][ApiError:2004]" in log
        assert "No SuperNode found with the given public key" in log
    wait_for(lambda: not processes_at(tmp_path), 10.0, "the end of all processes")


def _statuses(made: Network) -> list[str]:
    return [node["status"] for node in json.loads(confide("deploy", "status", made.home, "--json"))["nodes"]]


@pytest.fixture(autouse=True)
def _another_authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The third member was sent another ca.pem."""
    start = Network.start_server

    def deceived(self: Network) -> None:
        other = KeyPlaces(certificate=tmp_path / "other.pem", key=tmp_path / "other.key")
        make_authority(other, days=2)
        (self.members[THIRD].folder / "ca.pem").write_bytes(other.certificate.read_bytes())
        start(self)

    monkeypatch.setattr(Network, "start_server", deceived)
