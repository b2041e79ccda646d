from __future__ import annotations

import pytest

from longtail_lightning._open_file import NotAFileError, not_a_file, open_file
from tests.bombs import NO_FILES


@pytest.mark.parametrize("make", NO_FILES)
def test_what_is_no_file_is_refused_at_once(tmp_path, make):
    kind = make(tmp_path / "x.jpg")
    assert not_a_file(tmp_path / "x.jpg") == kind
    with pytest.raises(NotAFileError) as caught:
        open_file(tmp_path / "x.jpg")
    assert caught.value.strerror == kind


def test_files_and_links_to_them_are_opened(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    (tmp_path / "b").symlink_to("a")
    for name in ("a", "b"):
        assert not_a_file(tmp_path / name) is None
        with open_file(tmp_path / name) as file:
            assert file.read() == b"content"
    assert not_a_file(tmp_path / "gone") is None
    with pytest.raises(FileNotFoundError):
        open_file(tmp_path / "gone")
