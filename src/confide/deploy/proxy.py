"""A configuration of nginx that lets members through to the SuperLink, and nobody to what steers it.

The SuperLink has one port for everything, and whoever reaches the rest of it can run code at every member. So it
listens on its own machine alone, and this proxy passes on what a node needs: ten requests of the Fleet API and /health.
"""

FLEET_PATHS = tuple(
    f"/v1/fleet/{name}"
    for name in (
        "activate-node",
        "deactivate-node",
        "send-node-heartbeat",
        "pull-messages",
        "push-messages",
        "pull-object",
        "push-object",
        "confirm-message-received",
        "get-run",
        "get-fab",
    )
)
"""What a SuperNode asks for (flwr 1.41). Left out are register-node and unregister-node: with node authentication the
operator registers nodes."""

HEALTH_PATH = "/health"

MAX_BODY_MEGABYTES = 16
"""Flower cuts an Array into pieces of 5 MiB, one request each, however long a message is; the rest is room for its
records and for the list of pieces."""

_HEAD = """\
# Reverse proxy of a Confide server: members reach what a node needs, and nothing else.
#
#   nginx -p . -c nginx.conf -t            checks it (all commands in this folder, as the user who owns it)
#   nginx -p . -c nginx.conf               starts it
#   nginx -p . -c nginx.conf -s reload     takes up a renewed certificate
#   nginx -p . -c nginx.conf -s quit       stops it
#
# Every path is named in full and passed on as that very path, so no other spelling of a path gets through.

worker_processes 1;
pid flower/nginx.pid;
error_log flower/nginx-error.log warn;

events {{
    worker_connections 1024;
}}

http {{
    server_tokens off;
    access_log flower/nginx-access.log;

    # Nothing of what passes is written to the disk: bodies fit into memory, replies are passed on as they come.
    client_body_temp_path flower/nginx-body;
    proxy_temp_path flower/nginx-proxy;
    fastcgi_temp_path flower/nginx-fastcgi;
    uwsgi_temp_path flower/nginx-uwsgi;
    scgi_temp_path flower/nginx-scgi;
    proxy_max_temp_file_size 0;

    # One request carries at most one piece of 5 MiB of a message, and a list of pieces.
    client_max_body_size {megabytes}m;
    client_body_buffer_size {megabytes}m;
    large_client_header_buffers 4 8k;

    # Between two reads or writes, not for a whole request: a slow line is no fault, a dead one ends. Flower itself
    # gives up after 30 seconds without a byte.
    client_header_timeout 30s;
    client_body_timeout 60s;
    send_timeout 60s;
    keepalive_timeout 75s;
    proxy_connect_timeout 10s;
    proxy_send_timeout 60s;
    proxy_read_timeout 60s;

    limit_conn_zone $binary_remote_addr zone=addresses:1m;
    limit_conn addresses 128;
    limit_conn_status 429;

    server {{
        listen {proxy_port} ssl;
        {ipv6}listen [::]:{proxy_port} ssl;

        ssl_certificate server.pem;
        ssl_certificate_key server.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_tickets off;

        # The way on is encrypted too, and the SuperLink has to show the certificate of this folder's authority.
        proxy_ssl_trusted_certificate ca.pem;
        proxy_ssl_verify on;
        proxy_ssl_verify_depth 1;
        proxy_ssl_name localhost;
        proxy_ssl_server_name on;
        proxy_ssl_protocols TLSv1.2 TLSv1.3;
        proxy_http_version 1.1;
        proxy_set_header Connection close;
        proxy_set_header Host localhost;

"""

_LOCATION = """\
        location = {path} {{
            limit_except {method} {{ deny all; }}
            proxy_pass https://127.0.0.1:{port}{path};
        }}
"""

_TAIL = """\

        location / {
            return 404;
        }
    }
}
"""


def nginx_conf(*, port: int, proxy_port: int, is_ipv6: bool) -> str:
    """Writes the proxy's configuration for a server's folder; it stands there, and its paths are relative to it.

    Args:
        port: of the SuperLink, on the same machine.
        proxy_port: where members connect.
        is_ipv6: whether they reach it over IPv6, too; else that is a comment, as nginx does not start where the machine
            has none.
    """
    ipv6 = "" if is_ipv6 else "# "
    head = _HEAD.format(megabytes=MAX_BODY_MEGABYTES, proxy_port=proxy_port, ipv6=ipv6)
    fleet = "".join(_LOCATION.format(path=path, method="POST", port=port) for path in FLEET_PATHS)
    return head + fleet + _LOCATION.format(path=HEALTH_PATH, method="GET", port=port) + _TAIL
