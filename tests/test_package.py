"""The package's surface: what it offers, and that importing it is cheap."""

import importlib
import importlib.metadata
import pkgutil
import subprocess
import sys

import pytest

import pointpeft

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(pointpeft.__path__, "pointpeft.")
    if not module.name.endswith("__main__")
)  # fmt: skip


def loaded_by(statement: str, *modules: str) -> list[str]:
    """Those of `modules` that a fresh interpreter holds after `statement`."""
    code = f"import sys; {statement}; print([m for m in {list(modules)} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return eval(done.stdout)


@pytest.mark.parametrize("name", pointpeft.__all__)
def test_public_names_exist_and_are_documented(name):
    assert getattr(pointpeft, name).__doc__


def test_completion_knows_the_public_names_before_they_are_used():
    code = "import pointpeft; print(set(pointpeft.__all__) - set(dir(pointpeft)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = pointpeft.no_such_thing


def test_importing_the_package_is_cheap():
    heavy = ("torch", "lightning", "sklearn", "trimesh", "scipy")
    assert loaded_by("import pointpeft", *heavy) == []


def test_reading_data_does_not_wait_for_torch():
    assert loaded_by("import pointpeft.data", "torch", "lightning") == []


def test_command_line_help_does_not_wait_for_torch():
    assert loaded_by("import pointpeft.cli", "torch", "lightning", "sklearn") == []


def test_models_do_not_need_the_trainer():
    assert loaded_by("import pointpeft.peft", "lightning", "sklearn", "omegaconf") == []


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports_and_keeps_its_promises(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public), public


def test_version_is_the_installed_one():
    assert pointpeft.__version__ == importlib.metadata.version("pointpeft")
