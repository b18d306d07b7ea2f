"""What a run would have given without anything that disturbed it, over the same members in each round."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.deploy.field import Field, KilledError


def over_the_same_members(
    folder: Path, config: str, settings: Mapping[str, object], members: Sequence[Sequence[str]]
) -> bytes:
    """The last adapter of a run without a network, in which just these trained in each round.

    Args:
        folder: to work in.
        config: as offered, without `federation.min_clients`.
        settings: what members set for themselves, all alike.
        members: of each round.
    """
    field = Field(folder, config.replace("[federation]", "[federation]\nmin_clients = 2"))

    def leave_out(name: str, phase: str, number: int) -> None:
        for member in field.members.values():
            if member.node is None:
                member.start()
        if phase == "train" and name not in members[number - 1]:
            raise KilledError

    for member in field.members.values():
        member.settings = settings
        member.start()
        member.before = leave_out
    field.go()
    assert [record.members for record in field.directory.records()] == [tuple(sorted(one)) for one in members]
    (final,) = {(field.members[name].run / "final" / "adapter_model.safetensors").read_bytes() for name in members[-1]}
    return final
