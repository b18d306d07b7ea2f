"""The two apps that Flower starts: thin shells around the coordinator and around a node's worker.

Flower loads this module through the few lines that `confide.deploy.control.thin_app` writes. It starts a new process
for every message to a node, so nothing heavy is imported here: the client's app passes bytes to the worker's socket and
its answer back.
"""

import logging
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from confide.deploy.kept_answer import Answer
from confide.deploy.relay import MAX_BYTES, Asked, ask
from confide.errors import DeployError, MessageError
from confide.transport.base import MISSING
from confide.transport.flower import (
    LARGE_BYTES,
    Again,
    FlowerTransport,
    body_record,
    error_record,
    held_record,
    read_again,
    read_body,
)

FOLDER_KEY = "folder"
"""The key of the run's settings with the run directory's path, on the server."""

SOCKET_KEY = "socket"
"""The key of a node's settings with the path of the worker's socket."""

client = ClientApp()
server = ServerApp()


@client.query("confide")
def pass_on(message: Message, context: Context) -> Message:
    """Hands one request to the node's worker and its answer back; what goes wrong becomes an answer, too.

    The worker keeps the answer, so that the server can ask for it again if it is lost on the way. Of a large one the
    server is told first that it is there.
    """
    again = read_again(message.content)
    answer = _ask_worker(message, Path(str(context.node_config.get(SOCKET_KEY, ""))), again)
    is_only_told = not again.is_fetched if again is not None else len(answer.body) > LARGE_BYTES
    content = held_record(len(answer.body)) if answer.is_kept and is_only_told else _record(answer)
    return Message(content, reply_to=message)


def _ask_worker(message: Message, socket: Path, again: Again | None) -> Answer:
    run, seconds = message.metadata.run_id, message.metadata.ttl
    try:
        if again is not None:
            return ask(socket, Asked(run=run, number=again.request, body=None), seconds)
        request = read_body(message.content, max_bytes=MAX_BYTES)
        message.content = RecordDict()  # the request is in memory once from here on
        return ask(socket, Asked(run=run, number=message.metadata.message_id, body=request), seconds)
    except DeployError as error:
        return Answer(error_kind=MISSING, error=str(error))
    except MessageError as error:
        return Answer(error_kind=type(error).__name__, error=str(error))


def _record(answer: Answer) -> RecordDict:
    return error_record(answer.error_kind, answer.error) if answer.error_kind else body_record(answer.body)


@server.main()
def coordinate(grid: Grid, context: Context) -> None:
    """Runs the run whose directory the run's settings name, to its end."""
    from confide.deploy.coordinator import coordinate_run, phase_seconds

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    folder = Path(str(context.run_config[FOLDER_KEY]))
    coordinate_run(folder, FlowerTransport(grid, seconds=phase_seconds(folder)))
