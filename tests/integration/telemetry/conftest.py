"""Phoenix for the tests of this folder, started once."""

import pytest
from tests.phoenix.install import python_of_phoenix
from tests.phoenix.server import Phoenix


@pytest.fixture(scope="session")
def phoenix(request, tmp_path_factory):
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    python = python_of_phoenix(terminal.write_line)
    with Phoenix(python, tmp_path_factory.mktemp("phoenix")) as phoenix:
        yield phoenix
