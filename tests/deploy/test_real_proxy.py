"""A sealed run with real nginx between the nodes and a real SuperLink, as the runbook has it."""

import re
import subprocess
from pathlib import Path

import pytest

from confide.deploy.processes import free_port
from confide.deploy.proxy import FLEET_PATHS
from tests.deploy.real import NAMES, Network, needs_proc, processes_at, wait_for
from tests.deploy.test_proxy import NGINX, needs_nginx
from tests.deploy.test_proxy import wait_for as wait_for_port

pytestmark = [pytest.mark.slow, needs_proc, needs_nginx]

SECONDS = 240.0
REQUEST = re.compile(r'"(?:GET|POST) (\S+) HTTP/1.1" (\d+) ')


def test_a_run_through_the_proxy_asks_for_what_it_lets_through_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("flwr", reason="needs the extra flower")
    assert NGINX is not None
    port = free_port()
    made = Network(tmp_path, proxy_port=port)
    command = [NGINX, "-p", str(made.home), "-c", "nginx.conf", "-g", "daemon off;"]
    proxy = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_port(port, proxy)
        with made:
            running = made.run("trial")
            assert running.end(SECONDS) == 0, running.output
            assert [record.members for record in made.directory("trial").records()] == [NAMES, NAMES]
            assert len(made.adapters("trial")) == 1
            for member in made.members.values():
                member.ask_to_end()
            for member in made.members.values():
                member.end()
            log = (made.home / "flower" / "nginx-access.log").read_text()
    finally:
        proxy.terminate()
        proxy.communicate(timeout=30)
    asked = REQUEST.findall(log)
    assert {status for _, status in asked} == {"200"}
    assert {path for path, _ in asked} == set(FLEET_PATHS)
    wait_for(lambda: not processes_at(tmp_path), 10.0, "the end of all processes")
