"""The app of the test over real Flower: asks all nodes what its folder's plan says, and writes what came."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from unittest.mock import patch

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from confide.flower_app import pass_on
from confide.transport.flower import FlowerTransport

client = ClientApp()
server = ServerApp()


@client.query("confide")
def answer(message: Message, context: Context) -> Message:
    """Passes on what came, as in a real run; a node that is told to answers with a record that is not ours."""
    if context.node_config.get("garbage"):
        return Message(RecordDict({"confide.body": MetricRecord({"a": 1.0})}), reply_to=message)
    return pass_on(message, context)


Push = Callable[[Iterable[Message]], Iterable[str]]


def doubtful(push: Push) -> Push:
    """Takes every message, and fails to say so of every other one."""
    numbers = count()

    def push_messages(messages: Iterable[Message]) -> Iterable[str]:
        ids = push(messages)
        if next(numbers) % 2 == 0:
            raise ConnectionError("the answer was lost")
        return ids

    return push_messages


@server.main()
def main(grid: Grid, context: Context) -> None:
    with patch.object(grid, "push_messages", doubtful(grid.push_messages)):
        _ask(grid, context)


def _ask(grid: Grid, context: Context) -> None:
    folder = Path(str(context.run_config["folder"]))
    plan = json.loads((folder / "plan.json").read_text())
    transport = FlowerTransport(grid, seconds=lambda request: float(plan["seconds"]), poll_seconds=0.2)
    while len(transport.nodes()) < plan["nodes"]:
        time.sleep(0.2)
    transport.introduce({f"client {node}": node for node in transport.nodes()} | {"nobody": 12345})
    shared = (folder / "shared").read_bytes()
    requests = {f"client {node}": f"{node}:".encode() + shared for node in transport.nodes()}
    phases = []
    for _ in range(plan["phases"]):
        began = time.monotonic()
        replies = {
            reply.client: [hashlib.sha256(reply.body).hexdigest(), reply.error_kind, reply.error]
            for reply in transport.exchange({**requests, "nobody": b"", "stranger": b""})
        }
        phases.append({"seconds": time.monotonic() - began, "replies": replies})
    answer = folder / "phases.json.part"
    answer.write_text(json.dumps(phases))
    answer.rename(folder / "phases.json")
