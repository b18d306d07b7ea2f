"""The directory of a run at the server before its process starts: made for a new run, opened to go on with one."""

from collections.abc import Sequence
from pathlib import Path

from confide.deploy.coordinator import start_run
from confide.deploy.folders import ServerFolder
from confide.deploy.run_config import load_run_config, read_offer
from confide.errors import RunDirectoryError
from confide.membership.roster import Roster
from confide.names import file_name
from confide.run import RunDirectory


def start_new_run(server: ServerFolder, config_path: Path, overrides: Sequence[str]) -> RunDirectory:
    """Makes the directory of a new run, with its terms.

    Raises:
        UsageError: the configuration cannot work, there is no roster, or the run is there already.
        StorageError: it cannot be written.
    """
    config = load_run_config(config_path, overrides)
    folder = server.runs / file_name(config.run.name)
    if folder.exists():
        raise RunDirectoryError(
            f"the run {folder} is there already: choose another name with --set run.name=NAME, or go on with it with "
            f"`confide deploy run {server.path} --resume {folder.name}`."
        )
    return start_run(folder, config, Roster.load(server.require_roster()))


def resume_run(server: ServerFolder, name: str) -> RunDirectory:
    """Opens the directory of a run that stopped, and marks it as running.

    Raises:
        RunDirectoryError: there is none, it is finished and there is no adapter to hand over, or a process works on it.
    """
    # The folder's own name is taken too: it is what a listing shows.
    folders = [server.runs / one for one in (file_name(name), name) if Path(one).name == one]
    found = next((one for one in folders if one.exists()), None)
    if found is None:
        there = sorted(path.parent.name for path in server.runs.glob("*/run.json"))
        raise RunDirectoryError(f"{server.runs} has no run {name!r}; its runs are: {', '.join(there) or 'none'}")
    directory = RunDirectory.open(found)
    with directory.locked():
        if directory.status == "finished" and not directory.info.get("behind"):
            raise RunDirectoryError(f"the run {directory.path} is finished: there is nothing to go on with")
        directory.set_status("running", reason="", notices=[], num_notices=0)
    return directory


def num_rounds(directory: RunDirectory) -> int:
    """How many rounds a run is to have.

    Raises:
        ConfigError: its configuration is damaged.
    """
    return read_offer(directory.config_path.read_bytes()).federation.rounds
