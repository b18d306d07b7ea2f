"""A node without Flower's processes: its worker in a thread, and the client app as Flower calls it."""

from pathlib import Path

from flwr.app import Context, Message, RecordDict

from confide.flower_app import client


def answer_as_client_app(socket: Path, message: Message) -> Message:
    return client(message, Context(1, message.metadata.dst_node_id, {"socket": str(socket)}, RecordDict(), {}))
