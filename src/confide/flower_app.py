"""The two apps that Flower starts: thin shells around the coordinator and around a node's worker.

Flower loads this module through the few lines that `confide.deploy.processes.thin_app` writes. It starts a new process
for every message to a node, so nothing heavy is imported here: the client's app passes bytes to the worker's socket and
its answer back.
"""

import logging
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from confide.deploy.relay import MAX_BYTES, Answer, ask
from confide.errors import DeployError, MessageError
from confide.transport.flower import MISSING, FlowerTransport, body_record, error_record, read_body

FOLDER_KEY = "folder"
"""The key of the run's settings with the run directory's path, on the server."""

SOCKET_KEY = "socket"
"""The key of a node's settings with the path of the worker's socket."""

client = ClientApp()
server = ServerApp()


@client.query("confide")
def pass_on(message: Message, context: Context) -> Message:
    """Hands one request to the node's worker and its answer back; what goes wrong becomes an answer, too."""
    answer = _ask_worker(message, context)
    content = error_record(answer.error_kind, answer.error) if answer.error_kind else body_record(answer.body)
    return Message(content, reply_to=message)


def _ask_worker(message: Message, context: Context) -> Answer:
    try:
        request = read_body(message.content, max_bytes=MAX_BYTES)
        message.content = RecordDict()  # the request is in memory once from here on
        return ask(Path(str(context.node_config.get(SOCKET_KEY, ""))), request, message.metadata.ttl)
    except DeployError as error:
        return Answer(error_kind=MISSING, error=str(error))
    except MessageError as error:
        return Answer(error_kind=type(error).__name__, error=str(error))


@server.main()
def coordinate(grid: Grid, context: Context) -> None:
    """Runs the run whose directory the run's settings name, to its end."""
    from confide.deploy.coordinator import coordinate_run, phase_seconds

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    folder = Path(str(context.run_config[FOLDER_KEY]))
    coordinate_run(folder, FlowerTransport(grid, seconds=phase_seconds(folder)))
