"""The console's pages as the gateway holds them."""

import shutil
from pathlib import Path

import pytest

from gateway import pages


def test_a_release_that_is_put_in_place_mixes_with_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running gateway has read all its templates: others on the disk change nothing."""
    shutil.copytree(pages._FOLDER, tmp_path / "console")  # noqa: SLF001  (its place is what is changed)
    monkeypatch.setattr(pages, "_FOLDER", tmp_path / "console")
    held = pages._templates.__wrapped__()  # noqa: SLF001  (without the cache: from the copy)
    names = held.list_templates()
    shutil.rmtree(tmp_path / "console")

    assert "incident.html" in names
    assert [held.get_template(name).name for name in names] == names
