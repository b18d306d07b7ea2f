from pathlib import Path

import pytest

from confide.deploy.folder_settings import NodeSection, ServerSection
from confide.deploy.folders import ServerFolder
from confide.deploy.new_folders import JoinedNode, make_node_folder, make_server_folder


@pytest.fixture
def server(tmp_path: Path) -> ServerFolder:
    settings = ServerSection(hosts=("federation.example.org", "192.0.2.7"), members=("north", "south", "west"))
    return make_server_folder(tmp_path / "server", settings=settings)


@pytest.fixture
def joined(tmp_path: Path, server: ServerFolder) -> JoinedNode:
    settings = NodeSection(name="north", server=server.public_address)
    return make_node_folder(tmp_path / "north", settings=settings, authority=server.ca, passphrase=None)
