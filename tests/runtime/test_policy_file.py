"""The policy file: ours where there is none, and refused in one sentence where it cannot be read."""

from pathlib import Path

import pytest

from authority.policy import DEFAULT, Policy
from contracts.errors import InputError
from runtime.policy import load_policy
from runtime.settings import Settings

OWN = '@id("all") permit (principal, action, resource);'


def test_where_the_rules_are(tmp_path: Path) -> None:
    """The named file comes before the one in the home folder, and that one before ours."""
    home, named = tmp_path / "home", tmp_path / "named.cedar"
    home.mkdir()
    ours = load_policy(Settings(home=home))
    (home / "policy.cedar").write_text(OWN, encoding="utf-8")
    named.write_text(DEFAULT + "\n", encoding="utf-8")

    assert ours.digest == Policy().digest
    assert load_policy(Settings(home=home)).digest == Policy(OWN).digest
    assert load_policy(Settings(home=home, solo=True)).digest == Policy(OWN, solo=True).digest
    assert load_policy(Settings(home=home, policy=named)).digest == Policy(DEFAULT + "\n").digest


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory; set STANCH_POLICY"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b"", "it has no rules"),
        (b"permit (", "line 1: not Cedar"),
    ],
)
def test_files_that_are_no_policy(tmp_path: Path, content: bytes | None, said: str) -> None:
    """A file that is not there or no policy is never replaced by our own: it is named and refused."""
    path = tmp_path / "own.cedar"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(InputError, match=rf"policy {path}: {said}"):
        load_policy(Settings(policy=path))


def test_a_byte_order_mark(tmp_path: Path) -> None:
    """The mark that some editors put before a text is no part of the rules, nor of their digest."""
    path = tmp_path / "own.cedar"
    path.write_text(DEFAULT, encoding="utf-8-sig")

    assert load_policy(Settings(policy=path)).digest == Policy().digest


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    """Something else under the file's name in the home folder is an error, not an absence."""
    (tmp_path / "policy.cedar").mkdir()

    with pytest.raises(InputError, match="Is a directory"):
        load_policy(Settings(home=tmp_path))
