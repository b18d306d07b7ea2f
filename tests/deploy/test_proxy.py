"""The proxy's configuration in a real nginx, before a server that stands in for the SuperLink and notes what came."""

import http.client
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from confide.deploy.folder_settings import ServerSection
from confide.deploy.folders import ServerFolder
from confide.deploy.new_folders import make_server_folder
from confide.deploy.proxy import FLEET_PATHS, HEALTH_PATH, MAX_BODY_MEGABYTES

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
PIECE_BYTES = 5 * 2**20
needs_nginx = pytest.mark.skipif(NGINX is None, reason="no nginx here (Debian: apt-get install nginx)")

ROUTES_OF_FLOWER = """
from flwr.superlink.routers.control.router import router as control
from flwr.superlink.routers.fleet.router import router as fleet
from flwr.supercore.routers.runtime.router import router as runtime
from flwr.supercore.routers.runtime.responses import router as responses
for router in (control, fleet, runtime, responses):
    for route in router.routes:
        print(route.path)
"""


@dataclass
class Stand:
    """What runs: the proxy, and behind it a server that notes the path and the length of each request."""

    folder: ServerFolder
    seen: list[tuple[str, int]] = field(default_factory=list)

    def ask(self, method: str, path: str, body: bytes = b"", *, ca: Path | None = None) -> int:
        context = ssl.create_default_context(cafile=str(ca or self.folder.ca))
        connection = http.client.HTTPSConnection("localhost", self.folder.proxy_port, timeout=30, context=context)
        try:
            connection.connect()
            connection.putrequest(method, path, skip_accept_encoding=True)
            connection.putheader("Content-Length", str(len(body)))
            # What is too long is refused before it is read: the answer is there already.
            with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
                connection.endheaders()
                if body:
                    connection.send(body)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    assert NGINX is not None
    port, proxy_port = free_ports(2)
    settings = ServerSection(hosts=("localhost",), port=port, proxy_port=proxy_port)
    folder = make_server_folder(tmp_path_factory.mktemp("proxy") / "server", settings=settings)
    made = Stand(folder)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            made.seen.append((self.path, len(body)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = answer  # noqa: N815  names that http.server looks for

        def log_message(self, *_: object) -> None:
            """Keeps the test's output to itself."""

    behind = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder.certificate, folder.certificate_key)
    behind.socket = context.wrap_socket(behind.socket, server_side=True)
    thread = threading.Thread(target=behind.serve_forever)
    thread.start()
    command = [NGINX, "-p", str(folder.path), "-c", "nginx.conf", "-g", "daemon off;"]
    proxy = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(proxy_port, proxy)
        yield made
    finally:
        proxy.terminate()
        proxy.communicate(timeout=30)
        behind.shutdown()
        thread.join()
        behind.server_close()


def wait_for(port: int, process: "subprocess.Popen[str]") -> None:
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        assert process.poll() is None, process.communicate()[1]
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("nginx does not listen")


@needs_nginx
@pytest.mark.parametrize("path", FLEET_PATHS)
def test_what_a_node_needs_gets_through(stand: Stand, path: str) -> None:
    stand.seen.clear()
    assert stand.ask("POST", path, b"request") == 200
    assert stand.seen == [(path, 7)]


@needs_nginx
def test_health_gets_through(stand: Stand) -> None:
    stand.seen.clear()
    assert stand.ask("GET", HEALTH_PATH) == 200
    assert stand.seen == [(HEALTH_PATH, 0)]


@needs_nginx
def test_nothing_else_of_flower_gets_through(stand: Stand) -> None:
    pytest.importorskip("flwr", reason="the paths are read off Flower, the extra `flower`")
    found = subprocess.run([sys.executable, "-c", ROUTES_OF_FLOWER], capture_output=True, text=True, check=True)
    paths = set(found.stdout.split())
    of_nodes = {path for path in paths if path.startswith("/v1/fleet/")}
    assert of_nodes - set(FLEET_PATHS) == {"/v1/fleet/register-node", "/v1/fleet/unregister-node"}
    assert set(FLEET_PATHS) <= of_nodes
    refused = sorted(paths - set(FLEET_PATHS))
    for known in ("/v1/control/start-run", "/v1/control/register-node", "/v1/runtime/push-task-output"):
        assert known in refused
    stand.seen.clear()
    assert {path: stand.ask("POST", path) for path in refused} == dict.fromkeys(refused, 404)
    assert stand.seen == []


@needs_nginx
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/docs",
        "/openapi.json",
        "/v1/fleet/",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/get-run/../../control/start-run",
        "/v1/fleet/get-run/..%2f..%2fcontrol/start-run",
        "/v1/fleet/%2e%2e/control/start-run",
        "//v1/control/start-run",
        "/v1/fleet/get-run/",
        "/V1/FLEET/GET-RUN",
        "/health/../v1/control/start-run",
        "/health%00/v1/control/start-run",
        "/v1/fleet/get-run;/../../control/start-run",
    ],
)
def test_no_spelling_of_a_path_gets_around_it(stand: Stand, path: str) -> None:
    stand.seen.clear()
    assert stand.ask("POST", path) in (400, 404)
    assert stand.seen == []


@needs_nginx
@pytest.mark.parametrize("path", ["/v1/control/x/../../fleet/get-run", "/v1//fleet/get-run", "/v1/fleet/get%2drun"])
def test_another_spelling_of_an_allowed_path_reaches_the_server_as_that_path(stand: Stand, path: str) -> None:
    stand.seen.clear()
    assert stand.ask("POST", path) == 200
    assert stand.seen == [("/v1/fleet/get-run", 0)]


@needs_nginx
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "CONNECT", "OPTIONS"])
def test_other_methods_are_refused(stand: Stand, method: str) -> None:
    stand.seen.clear()
    assert stand.ask(method, FLEET_PATHS[0]) in (400, 403, 405)
    assert stand.seen == []


@needs_nginx
def test_a_piece_of_a_message_fits_and_what_is_too_long_does_not(stand: Stand) -> None:
    stand.seen.clear()
    path = "/v1/fleet/push-object"
    assert stand.ask("POST", path, bytes(PIECE_BYTES + 4096)) == 200
    assert stand.seen == [(path, PIECE_BYTES + 4096)]
    assert stand.ask("POST", path, bytes(MAX_BODY_MEGABYTES * 2**20 + 1)) == 413
    assert len(stand.seen) == 1


def test_it_listens_for_ipv6_where_that_is_among_the_addresses(tmp_path: Path) -> None:
    lines = {}
    for host in ("federation.example.org", "2001:db8::1"):
        made = make_server_folder(tmp_path / host, settings=ServerSection(hosts=(host,), proxy_port=9443))
        lines[host] = [line.strip() for line in made.nginx.read_text().splitlines() if "listen " in line]
    assert lines == {
        "federation.example.org": ["listen 9443 ssl;", "# listen [::]:9443 ssl;"],
        "2001:db8::1": ["listen 9443 ssl;", "listen [::]:9443 ssl;"],
    }


@needs_nginx
def test_headers_that_are_too_long_are_refused(stand: Stand) -> None:
    stand.seen.clear()
    assert stand.ask("POST", f"{FLEET_PATHS[0]}?{'x' * 9_000}") == 414
    assert stand.seen == []


@needs_nginx
def test_who_has_another_authority_does_not_connect(stand: Stand, server: ServerFolder) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        stand.ask("GET", HEALTH_PATH, ca=server.ca)


@needs_nginx
def test_bodies_are_not_written_to_the_disk(stand: Stand) -> None:
    """nginx warns in its log of every body that it puts into a temporary file, here of the request and of the reply."""
    assert stand.ask("POST", "/v1/fleet/push-object", bytes(PIECE_BYTES)) == 200
    assert "temporary file" not in (stand.folder.flower / "nginx-error.log").read_text()


def test_pieces_are_as_long_as_flower_makes_them() -> None:
    pytest.importorskip("flwr", reason="the length is read off Flower, the extra `flower`")
    code = "from flwr.common.constant import FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE as size\nprint(size)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) == PIECE_BYTES < MAX_BODY_MEGABYTES * 2**20
