"""The same federation in one process: what a deployment's result is compared with."""

from collections.abc import Mapping
from pathlib import Path

from confide.build import build_examples, build_federation, build_model, build_records, build_template
from confide.config.load import parse_config, read_toml
from confide.federate import run, start
from confide.run import RunDirectory


class _Silent:
    def round_started(self, round_number: int, num_rounds: int, num_clients: int) -> None:
        pass

    def round_finished(self, record: object, num_rounds: int) -> None:
        pass


def run_in_one_process(folder: Path, config_toml: str, settings: Mapping[str, object]) -> Path:
    """Runs a federation of all clients; gives the folder of its last round.

    Args:
        folder: to work in.
        config_toml: as a deployment's server offers it.
        settings: what members of a deployment set for themselves, all alike.
    """
    path = folder / "one.toml"
    path.write_text(config_toml)
    values = read_toml(path)
    for key, value in settings.items():
        section, name = key.split(".")
        table = values.setdefault(section, {})
        assert isinstance(table, dict)
        table[name] = value
    config = parse_config(values)
    directory = RunDirectory.create(folder / "one", config_toml="", name="one", seed=3, notes={"id": "one"})
    model = build_model(config)
    examples = build_examples(config, build_records(config), build_template(config, model.tokenizer))
    federation = build_federation(config, model, examples, run="one", private=folder / "one" / "clients")
    run(federation, directory, start(federation, directory), observer=_Silent(), trackers=[])
    return directory.final
