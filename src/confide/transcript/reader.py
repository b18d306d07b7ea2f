"""Reads a transcript back: what the server got, and what each client sent and opened, round by round."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load

from confide.errors import LayoutMismatchError, MessageError, RunDirectoryError
from confide.global_state import GlobalState
from confide.messages import Message, OpenReply, StateReply, TrainReply, decode, unpack_parts
from confide.transcript.recorder import client_folder, server_folder
from confide.update import Layout, Vector


@dataclass(frozen=True, kw_only=True)
class KeptUpdate:
    """An update as a client kept it.

    Attributes:
        layout: of the slots that trained in that round.
        vector: flat float32 over `layout`.
        weight: in the mean; of a mean, its members' weights together.
    """

    layout: Layout
    vector: Vector = field(repr=False)
    weight: float


class Transcript:
    """One run's transcript.

    Args:
        folder: RUN/transcript.
        whole: layout of the whole adapter: names of a round's slots must be among its.

    Raises:
        RunDirectoryError: there is none.
    """

    def __init__(self, folder: Path, whole: Layout) -> None:
        if not (folder / "PRIVATE.md").is_file():
            raise RunDirectoryError(
                f"{folder} is no transcript: the run was not recorded. Train with --set audit.record=true to audit "
                "what single updates and sealed ones show; all that the global adapters show needs no transcript."
            )
        self._folder = folder
        self._whole = whole

    def sent(self, point: int, round_number: int) -> KeptUpdate | None:
        """What client number `point` sealed in a round; None if it took no part."""
        return self._kept(point, f"sent-{round_number:04d}")

    def opened(self, point: int, round_number: int) -> KeptUpdate | None:
        """The mean that client number `point` opened; None if it did not."""
        return self._kept(point, f"opened-{round_number:04d}")

    def has_opened(self, point: int, round_number: int) -> bool:
        """Whether there is the mean that client number `point` opened; not read."""
        return self._path(point, f"opened-{round_number:04d}").is_file()

    def uploads(self, round_number: int) -> dict[str, TrainReply]:
        """The last upload of each client in a round, as the server got it.

        Raises:
            RunDirectoryError: a file cannot be read.
        """
        replies = (message for _, message in self._replies(round_number))
        return {message.client: message for message in replies if isinstance(message, TrainReply)}

    def reports(self, round_number: int) -> dict[str, OpenReply]:
        """What each client told the server last about the sum that it opened in a round.

        Raises:
            RunDirectoryError: a file cannot be read.
        """
        replies = (message for _, message in self._replies(round_number))
        return {message.client: message for message in replies if isinstance(message, OpenReply)}

    def handed_over(self, round_number: int) -> Vector | None:
        """The global adapter after so many rounds as a client gave it to the server, in the clear; None if none did.

        States that a client hands over for other clients pass the server encrypted: they are none of these.

        Raises:
            RunDirectoryError: a file cannot be read.
        """
        found = None
        for path, message in self._replies(round_number):
            if not isinstance(message, StateReply):
                continue
            try:
                parts = unpack_parts(message.body)
                if parts.keys() == {"state"}:
                    found = GlobalState.from_bytes(parts["state"], self._whole).adapter
            except (MessageError, LayoutMismatchError) as error:
                raise RunDirectoryError(f"{path} cannot be read back: {error}") from error
        return found

    def _replies(self, round_number: int) -> Iterator[tuple[Path, Message]]:
        """Everything that the server got in a round, in the order in which it came."""
        for path in sorted((server_folder(self._folder) / f"{round_number:04d}").glob("*.bin")):
            try:
                yield path, decode(path.read_bytes())
            except (OSError, MessageError) as error:
                raise RunDirectoryError(f"{path} cannot be read back: {error}") from error

    def _kept(self, point: int, name: str) -> KeptUpdate | None:
        path = self._path(point, name)
        if not path.is_file():
            return None
        try:
            tensors = load(path.read_bytes())
            weight = float(tensors.pop("weight")[0])
            layout = self._whole.select(tensors)
            vector = layout.flatten(tensors)
        except (OSError, SafetensorError, KeyError, IndexError, LayoutMismatchError) as error:
            raise RunDirectoryError(f"{path} cannot be read back: {error}") from error
        return KeptUpdate(layout=layout, vector=vector, weight=weight)

    def _path(self, point: int, name: str) -> Path:
        return client_folder(self._folder, point) / f"{name}.safetensors"
