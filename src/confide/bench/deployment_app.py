"""Plain federated averaging over Flower, to compare with: FedAvg as it comes, a client that adds noise to the arrays.

Flower loads this through an app folder of the benchmark. The server's app reads FOLDER/work.json and adds a line to
FOLDER/rounds as each round ends; what stops it goes into FOLDER/failure.
"""

import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from confide.bench.deployment_arrays import draw_update, make_layout, make_start
from confide.bench.deployment_work import FAILURE_FILE, FLAT, ROUNDS_FILE, WORK_FILE, DeploymentWork
from confide.update import Layout, Slot

_LOOK_SECONDS = 0.2

client = ClientApp()
server = ServerApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    """Adds a drawn update to every array."""
    del context
    received, config = message.content["arrays"], message.content["config"]
    assert isinstance(received, ArrayRecord)
    assert isinstance(config, ConfigRecord)
    arrays = {name: array.numpy() for name, array in received.items()}
    num_values = sum(array.size for array in arrays.values())
    update = draw_update(0, str(message.metadata.dst_node_id), int(str(config["server-round"])), num_values)
    start, trained = 0, {}
    for name, array in arrays.items():
        trained[name] = Array(array + update[start : start + array.size].reshape(array.shape))
        start += array.size
    content = RecordDict({"arrays": ArrayRecord(trained), "metrics": MetricRecord({"num-examples": 1, "loss": 1.0})})
    return Message(content, reply_to=message)


@client.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Reports a loss without looking at anything."""
    del context
    return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1, "loss": 1.0})}), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Averages for some rounds."""
    folder = Path(str(context.run_config["folder"]))
    try:
        _run(grid, folder)
    except Exception as error:
        (folder / FAILURE_FILE).write_text(f"{type(error).__name__}: {error}")
        raise


def _run(grid: Grid, folder: Path) -> None:
    work = DeploymentWork.from_json((folder / WORK_FILE).read_text())
    while len(list(grid.get_node_ids())) < work.num_nodes:
        time.sleep(_LOOK_SECONDS)
    layout = make_layout(work.num_values)
    if work.contender == FLAT:
        layout = Layout((Slot(name="adapter", shape=(work.num_values,)),))
    named = layout.unflatten(make_start(layout))
    start = ArrayRecord({name: Array(np.ascontiguousarray(array)) for name, array in named.items()})

    def note(round_number: int, arrays: ArrayRecord) -> None:
        del arrays
        with (folder / ROUNDS_FILE).open("a") as file:
            file.write(f"{round_number}\n")

    FedAvg().start(grid, start, num_rounds=work.num_rounds, evaluate_fn=note)
