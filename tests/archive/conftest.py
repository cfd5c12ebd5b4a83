import pytest
from tiny_archive import TinyArchive, write_2024, write_2025


@pytest.fixture(scope="session")
def archive_2025(tmp_path_factory: pytest.TempPathFactory) -> TinyArchive:
    """Read only: a test that damages a file works on its own copy."""
    return write_2025(tmp_path_factory.mktemp("archive") / "2025")


@pytest.fixture(scope="session")
def archive_2024(tmp_path_factory: pytest.TempPathFactory) -> TinyArchive:
    return write_2024(tmp_path_factory.mktemp("archive") / "2024")
