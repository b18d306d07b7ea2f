from importlib.metadata import version

from confide.machine import describe_machine, installed_versions


def test_a_machine_has_cores_memory_and_a_name() -> None:
    machine = describe_machine()
    assert machine["processor"]
    assert isinstance(machine["usable_cores"], int)
    assert machine["usable_cores"] >= 1
    assert isinstance(machine["memory_mb"], int)
    assert machine["memory_mb"] > 100


def test_versions_are_those_installed() -> None:
    assert installed_versions(["torch", "no-such-package"]) == {"torch": version("torch")}
