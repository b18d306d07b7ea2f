"""Plain federated averaging over Flower, to compare with: FedAvg as it comes, and clients that add noise to the arrays.

Flower loads this through an app folder of the benchmark. The server's app reads FOLDER/work.json and adds a line to
FOLDER/rounds as each round ends; what stops it goes into FOLDER/failure.
"""

import time
from pathlib import Path

from confide.bench.deployment_arrays import draw_update, make_layout, make_start
from confide.bench.deployment_work import FAILURE_FILE, FLAT, ROUNDS_FILE, WORK_FILE, DeploymentWork
from confide.flower_app import FedAvgServer, NamedArrays, fedavg_client, fedavg_server
from confide.update import Layout, Slot

_LOOK_SECONDS = 0.2


def add_update(arrays: NamedArrays, node: str, round_number: int) -> NamedArrays:
    """Adds a drawn update to the arrays."""
    update = draw_update(0, node, round_number, sum(array.size for array in arrays.values()))
    start, trained = 0, {}
    for name, array in arrays.items():
        trained[name] = array + update[start : start + array.size].reshape(array.shape)
        start += array.size
    return trained


def serve(folder: Path, fedavg: FedAvgServer) -> None:
    """Averages for as many rounds as FOLDER/work.json asks for, when all nodes are there."""
    try:
        _average(folder, fedavg)
    except Exception as error:
        (folder / FAILURE_FILE).write_text(f"{type(error).__name__}: {error}")
        raise


client = fedavg_client(add_update)
server = fedavg_server(serve)


def _average(folder: Path, fedavg: FedAvgServer) -> None:
    work = DeploymentWork.from_json((folder / WORK_FILE).read_text())
    while fedavg.num_nodes < work.num_nodes:
        time.sleep(_LOOK_SECONDS)
    layout = make_layout(work.num_values)
    if work.contender == FLAT:
        layout = Layout((Slot(name="adapter", shape=(work.num_values,)),))

    def note(round_number: int) -> None:
        with (folder / ROUNDS_FILE).open("a") as file:
            file.write(f"{round_number}\n")

    fedavg.average(layout.unflatten(make_start(layout)), work.num_rounds, note)
