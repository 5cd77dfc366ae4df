import fnmatch
import logging
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import huggingface_hub
import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prepared clouds go to a temporary folder, shared by the tests since it changes no result."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POINTPEFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def log_level_as_it_was() -> Iterator[None]:
    """The command line lets its process say more than the library does."""
    yield
    logging.getLogger("pointpeft").setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def one_thread_and_fixed_seed():
    """Networks this small lose more to waiting for a second thread than it gives."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def new_processes() -> Callable[[], set[BaseProcess]]:
    """Gives the processes of this one that a test began; shared fixtures may have others."""
    before = set(multiprocessing.active_children())
    return lambda: set(multiprocessing.active_children()) - before


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub of Hugging Face, played by a folder: repositories are folders in it."""
    root = tmp_path / "hub"

    def upload(self, repo_id, folder_path, commit_message=None, delete_patterns=()):
        uploaded = {file.relative_to(folder_path) for file in Path(folder_path).rglob("*")}
        for file in (root / repo_id).rglob("*"):
            name = file.relative_to(root / repo_id)
            outdated = any(fnmatch.fnmatch(str(name), each) for each in delete_patterns)
            if file.is_file() and outdated and name not in uploaded:
                file.unlink()
        shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True)
        return f"https://example.org/{repo_id}"

    def snapshot(repo):
        if not (root / repo).is_dir():
            raise OSError(f"no repository {repo}")
        return str(root / repo)

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda self, repo, **given: None)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return root
