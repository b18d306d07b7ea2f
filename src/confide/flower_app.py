"""The apps that Flower starts: thin shells around the coordinator and around a node's worker, and plain FedAvg.

FedAvg is Flower's own, for the benchmark that compares with it; it is here because no other module imports Flower's
apps. No deployment uses it.

Flower loads this module through the few lines that `confide.deploy.control.thin_app` writes. It starts a new process
for every message to a node, so nothing heavy is imported here: the client's app passes bytes to the worker's socket and
its answer back.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from numpy.typing import NDArray

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

NamedArrays = Mapping[str, NDArray[np.float32]]
"""Values as FedAvg averages them."""

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
    """Runs the run whose directory the run's settings name, to its end.

    Raises:
        RunDirectoryError: the operator gave it up before Flower started this.
    """
    from confide.deploy.coordinator import coordinate_run, phase_seconds
    from confide.errors import RunDirectoryError
    from confide.run import RunDirectory

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    folder = Path(str(context.run_config[FOLDER_KEY]))
    if (status := RunDirectory.open(folder).status) != "running":  # it may have been given up long ago
        raise RunDirectoryError(f"the run {folder} is {status}, and was not taken up again: nothing is done")
    coordinate_run(folder, FlowerTransport(grid, seconds=phase_seconds(folder)))


def fedavg_client(train: Callable[[NamedArrays, str, int], NamedArrays]) -> ClientApp:
    """A node's app for Flower's FedAvg: trains when it is asked, and reports a loss of 1 without looking at anything.

    Args:
        train: makes the node's arrays of the global ones, Flower's number of the node, and the round's number.
    """
    app = ClientApp()

    @app.train()
    def answer(message: Message, context: Context) -> Message:
        del context
        received, config = message.content["arrays"], message.content["config"]
        if not isinstance(received, ArrayRecord) or not isinstance(config, ConfigRecord):
            raise MessageError("expected Flower's FedAvg to send arrays and settings, got other records")
        arrays = {name: array.numpy() for name, array in received.items()}
        trained = train(arrays, str(message.metadata.dst_node_id), int(str(config["server-round"])))
        return Message(RecordDict({"arrays": _array_record(trained), "metrics": _metrics()}), reply_to=message)

    @app.evaluate()
    def report(message: Message, context: Context) -> Message:
        del context
        return Message(RecordDict({"metrics": _metrics()}), reply_to=message)

    return app


def fedavg_server(serve: Callable[[Path, "FedAvgServer"], None]) -> ServerApp:
    """The server's app for Flower's FedAvg.

    Args:
        serve: is called once, with the folder that the run's settings name.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        serve(Path(str(context.run_config[FOLDER_KEY])), FedAvgServer(grid))

    return app


class FedAvgServer:
    """Flower's FedAvg with its defaults: all nodes train and evaluate in every round."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    @property
    def num_nodes(self) -> int:
        """Nodes that are connected."""
        return len(list(self._grid.get_node_ids()))

    def average(self, start: NamedArrays, num_rounds: int, on_round: Callable[[int], None]) -> None:
        """Averages for some rounds.

        Args:
            start: the global arrays before the first round.
            num_rounds: how many.
            on_round: told 0 before the first round, and each round's number as it ends.
        """
        from flwr.serverapp.strategy import FedAvg

        def note(round_number: int, arrays: ArrayRecord) -> None:
            del arrays
            on_round(round_number)

        FedAvg().start(self._grid, _array_record(start), num_rounds=num_rounds, evaluate_fn=note)


def _array_record(arrays: NamedArrays) -> ArrayRecord:
    return ArrayRecord({name: Array(np.ascontiguousarray(array)) for name, array in arrays.items()})


def _metrics() -> MetricRecord:
    return MetricRecord({"num-examples": 1, "loss": 1.0})
