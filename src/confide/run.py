"""The run directory: where everything about a run lies, and how it survives a kill at any moment.

    run.json             name, status, versions, seed, machine, command; the configuration, and what was resolved at the
                         start (threads, device, dtype): a resume keeps to them
    config.toml          as resolved
    rounds.jsonl         one object a round
    rounds/0007/         after round 7: the global adapter in PEFT's format, record.json, clients.json; in the newest
                         round of an unfinished run also state/, which holds what clients keep to themselves
    final -> rounds/NNNN the last complete round

A round folder appears complete or not at all (written aside, synced, renamed), and everything else can be made again
from the round folders. `rounds/0000` is the adapter before training.
"""

import fcntl
import json
import os
import platform
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from confide.errors import RunDirectoryError
from confide.files import atomic_folder, point_link, remove_temporaries, sole_maker, storage_error, write_atomic
from confide.machine import describe_machine, installed_versions
from confide.records import RoundRecord

RECORD_FILE = "record.json"
_ROUND = re.compile("[0-9]{4}|[1-9][0-9]{4,}")
_VERSIONED = ("confide", "torch", "transformers", "peft", "numpy", "safetensors")


class RunDirectory:
    """One run's folder.

    Args:
        path: of the folder; use `create` for a new run and `open` for one that is there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(
        cls, path: Path, *, config_toml: str, name: str, seed: int, notes: Mapping[str, object]
    ) -> "RunDirectory":
        """Makes the folder of a new run.

        Raises:
            RunDirectoryError: there is something at `path` already.
            StorageError: it cannot be written.
        """
        if path.exists():
            hint = f"resume it with `confide resume {path}`, or" if (path / "run.json").exists() else "remove it, or"
            raise RunDirectoryError(
                f"the run directory {path} exists already: {hint} choose another name with --set run.name=NAME."
            )
        info = {
            "name": name,
            "status": "running",
            "seed": seed,
            "created": _now(),
            "command": shlex.join(["confide", *sys.argv[1:]]),
            "versions": {"python": platform.python_version(), **installed_versions(_VERSIONED)},
            "machine": describe_machine(),
            "config": tomllib.loads(config_toml),
            **notes,
        }
        with sole_maker(path), atomic_folder(path, replace=False) as folder:
            (folder / "rounds").mkdir()
            write_atomic(folder / "config.toml", config_toml)
            write_atomic(folder / "rounds.jsonl", "")
            cls(folder)._write_info(info)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Opens an existing run's folder.

        Raises:
            RunDirectoryError: it is missing or no run directory.
        """
        if not (path / "run.json").is_file() or not (path / "config.toml").is_file():
            raise RunDirectoryError(
                f"{path} is no run directory (it has no run.json or no config.toml). "
                "Give the folder that `confide train` printed, for example runs/my-run."
            )
        return cls(path)

    @property
    def info(self) -> dict[str, object]:
        """The content of run.json.

        Raises:
            RunDirectoryError: it cannot be read, or lacks what every run has.
        """
        try:
            info = json.loads((self.path / "run.json").read_text())
        except (OSError, ValueError) as error:
            raise RunDirectoryError(f"{self.path / 'run.json'} cannot be read: {error}") from error
        if not isinstance(info, dict):
            raise RunDirectoryError(f"{self.path / 'run.json'} holds no JSON object")
        if not isinstance(info.get("status"), str):
            raise RunDirectoryError(f"{self.path / 'run.json'} names no status: it is damaged. Start a new run.")
        return info

    @property
    def status(self) -> str:
        """How the run stands: "running", "finished", "interrupted" or "failed"."""
        return str(self.info["status"])

    @property
    def run_id(self) -> str:
        """The run's own id, which no other run has."""
        return str(self._noted("id"))

    @property
    def config_values(self) -> dict[str, object]:
        """The configuration that the run was started with, as sections of keys."""
        values = self._noted("config")
        if not isinstance(values, dict):
            raise RunDirectoryError(f"{self.path / 'run.json'} is damaged: config is no object")
        return values

    @property
    def threads(self) -> int:
        """CPU threads that the run was started with; 0 where that is not known, as nothing has been trained yet."""
        threads = self._known("threads", 0)
        if not isinstance(threads, int):
            raise RunDirectoryError(f"{self.path / 'run.json'} is damaged: threads is no whole number")
        return threads

    @property
    def config_path(self) -> Path:
        """The configuration as resolved."""
        return self.path / "config.toml"

    @property
    def final(self) -> Path:
        """The folder of the last complete round.

        Raises:
            RunDirectoryError: no round is complete yet, or see `check_end`.
        """
        last = self.last_round()
        self.check_end()
        return self.round_folder(last)

    def set_status(self, status: str, **more: object) -> None:
        """Writes the run's status ("running", "finished", "interrupted", "failed") and when it was set."""
        self._write_info({**self.info, "status": status, "updated": _now(), **more})

    def check_base(self, base: str, digest: str) -> None:
        """Refuses other base weights than the run was started with; a run without a round yet takes any.

        Raises:
            RunDirectoryError: they are not the same.
        """
        known = self._known("base_digest", digest)
        if known != digest:
            raise RunDirectoryError(
                f"the run {self.path} was started with other weights of {base} (digest {str(known)[:12]}, now "
                f"{digest[:12]}). Use the same base model, or start a new run."
            )

    def check_device(self, device: str, dtype: str) -> None:
        """Refuses another device or number type than the run was started with: its bits would be others.

        Raises:
            RunDirectoryError: they are not the same.
        """
        for key, what, now in (("device", "run.device", device), ("dtype", "model.dtype", dtype)):
            known = self._known(key, now)
            if known != now:
                raise RunDirectoryError(
                    f"the run {self.path} was started with {what} {known}, and here it would go on with {now}: the "
                    "result would be another. Go on where it was started, or start a new run."
                )

    def check_data(self, digests: Mapping[str, str]) -> None:
        """Refuses other data than the run was started with; a run without a round yet takes any.

        Args:
            digests: of every client's records, by client.

        Raises:
            RunDirectoryError: names the clients whose data is not the same.
        """
        known = self._known("data_digests", dict(digests))
        if not isinstance(known, dict):
            raise RunDirectoryError(f"{self.path / 'run.json'} is damaged: data_digests is no object")
        changed = sorted(name for name in known.keys() | digests.keys() if known.get(name) != digests.get(name))
        if changed:
            raise RunDirectoryError(
                f"the data of {', '.join(changed[:5])}{' and others' if len(changed) > 5 else ''} is not what the run "
                f"{self.path} was started with: other rows, another order, or another division into trained and held "
                "out. Put the old data back, or start a new run."
            )

    def _known(self, key: str, now: object) -> object:
        """What run.json says of `key`; what is there now, if nothing has been trained yet."""
        info = self.info
        if key not in info and self.rounds():
            raise RunDirectoryError(
                f"{self.path / 'run.json'} has rounds but no {key}: it is damaged. Start a new run."
            )
        return info.get(key, now)

    def _noted(self, key: str) -> object:
        """What run.json says of `key`, which is there from the start."""
        info = self.info
        if key not in info:
            raise RunDirectoryError(f"{self.path / 'run.json'} has no {key}: it is damaged. Start a new run.")
        return info[key]

    def drop_state(self, number: int) -> None:
        """Removes what only a resume from round `number` needs: it holds what clients keep to themselves.

        Raises:
            StorageError: it is there and cannot be removed.
        """
        state = self.round_folder(number) / "state"
        try:
            shutil.rmtree(state)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(state, error) from error

    def last_round(self) -> int:
        """The number of the last complete round; 0 if only the start is saved.

        Raises:
            RunDirectoryError: not even the start is saved.
        """
        numbers = self.rounds()
        if not numbers:
            raise RunDirectoryError(
                f"{self.path} has no complete round, not even the start. Remove it and run `confide train` again."
            )
        return numbers[-1]

    def check_end(self) -> None:
        """Refuses a run whose last rounds are gone: the one before them would pass for the final model.

        A round was completed if `final` points at it or `rounds.jsonl` has its line: both are written after its folder.
        So a run that was interrupted, whatever its configuration asks for, is whole up to its last complete round.

        Raises:
            RunDirectoryError: names the folders that are missing.
        """
        completed = self._completed()  # first: a run that goes on may complete a round meanwhile
        there = max([0, *self.rounds()])
        gone = [number for number in completed if number > there]
        if gone:
            folders = ", ".join(f"rounds/{number:04d}" for number in gone)
            verb = "are" if len(gone) > 1 else "is"
            raise RunDirectoryError(
                f"the run {self.path} completed round {gone[-1]}, and {folders} {verb} gone: round {there}, the last "
                f"that is there, is not its final model. Put {folders} back from the run as it was trained, or train "
                "it anew."
            )

    def _completed(self) -> list[int]:
        """The numbers of rounds that were completed by what stands outside their folders, ascending."""
        link, told = self.path / "final", self.path / "rounds.jsonl"
        names = [link.readlink().name] if link.is_symlink() else []
        found = {int(name) for name in names if _ROUND.fullmatch(name)}
        for line in told.read_text(errors="replace").splitlines() if told.is_file() else []:
            with suppress(RunDirectoryError):  # a line that a kill cut off
                found.add(RoundRecord.from_json(line).round_number)
        return sorted(found)

    def rounds(self) -> list[int]:
        """The numbers of all complete rounds, ascending."""
        # A copy such as 0002.bak that somebody put there is no round.
        found = [folder for folder in (self.path / "rounds").glob("[0-9]*") if _ROUND.fullmatch(folder.name)]
        return sorted(int(folder.name) for folder in found if folder.is_dir())

    def round_folder(self, number: int) -> Path:
        """Where round `number` is or will be."""
        return self.path / "rounds" / f"{number:04d}"

    @contextmanager
    def new_round(self, number: int) -> Iterator[Path]:
        """Yields a folder to write round `number` into; it takes its place when the body ends without an error."""
        with atomic_folder(self.round_folder(number)) as folder:
            yield folder

    def publish(self, number: int) -> None:
        """Lets `final` point at a complete round, and drops the resume state of the round before it."""
        point_link(self.path / "final", f"rounds/{number:04d}")
        if number > 0:
            self.drop_state(number - 1)

    def mend_final(self) -> None:
        """Publishes the last complete round where a kill came before that.

        Where `final` points at a later round, that one is lost: the link stays, as `check_end` goes by it.
        """
        numbers = self.rounds()
        if not numbers:
            return
        link = self.path / "final"
        target = link.readlink().name if link.is_symlink() else ""
        if not target.isdigit() or int(target) < numbers[-1]:
            self.publish(numbers[-1])

    def append_record(self, record: RoundRecord) -> None:
        """Adds a round's line to `rounds.jsonl`; a line cut off by a kill is mended by `rebuild_records`.

        Raises:
            StorageError: the disk is full.
        """
        path = self.path / "rounds.jsonl"
        try:
            with path.open("a") as file:
                file.write(record.to_json() + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise storage_error(path, error) from error

    def rebuild_records(self) -> None:
        """Writes `rounds.jsonl` anew from the round folders."""
        write_atomic(self.path / "rounds.jsonl", "".join(record.to_json() + "\n" for record in self.records()))

    def records(self) -> list[RoundRecord]:
        """The records of all complete rounds, in order."""
        return [
            RoundRecord.from_json((self.round_folder(number) / RECORD_FILE).read_text())
            for number in self.rounds()
            if number > 0
        ]

    def clean(self) -> None:
        """Removes what a killed process left half written."""
        remove_temporaries(self.path)
        remove_temporaries(self.path / "rounds")

    def discard(self) -> None:
        """Removes the whole folder: for a run that failed before its start was saved."""
        shutil.rmtree(self.path, ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the run for this process; a killed process lets go by itself.

        Raises:
            RunDirectoryError: another process is working on this run.
        """
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunDirectoryError(f"another process is working on the run {self.path}: wait for it") from error
            yield

    def _write_info(self, info: Mapping[str, object]) -> None:
        write_atomic(self.path / "run.json", json.dumps(info, indent=2) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
