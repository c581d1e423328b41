import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import walvec_slots

FOLDER = Path(walvec_slots.__file__).parent


@pytest.mark.parametrize("name", walvec_slots.__all__)
def test_a_public_name_is_its_modules(name: str) -> None:
    """Each public name is the object that one of the modules defines."""
    home = import_module(f"walvec_slots.{walvec_slots._HOMES[name]}")
    assert getattr(walvec_slots, name) is getattr(home, name)


def test_no_name_is_missing() -> None:
    """The public names and those that can be imported are the same ones."""
    assert dir(walvec_slots) == sorted(walvec_slots._HOMES)
    with pytest.raises(AttributeError, match="nonsense"):
        getattr(walvec_slots, "nonsense")  # noqa: B009 -- mypy knows that there is none


def test_the_reading_order_has_every_module() -> None:
    """The docstring names each module of the package once, and no other."""
    listed = (walvec_slots.__doc__ or "").partition("in the order in which to read them:")[2]
    names = [line.split()[0] for line in listed.splitlines() if line.startswith("    ")]
    assert sorted(names) == sorted(path.stem for path in FOLDER.glob("[a-z]*.py"))


def test_importing_the_package_imports_no_module_of_it() -> None:
    """A program that needs the errors alone does not wait for psycopg."""
    code = "import sys, walvec_slots; print([name for name in sys.modules if 'walvec_slots.' in name])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
