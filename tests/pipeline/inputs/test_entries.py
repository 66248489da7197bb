"""What a storage answers, told in one line as the mistake that it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from clipmill.pipeline.errors import InputError
from clipmill.pipeline.inputs.text_file import read_text
from input_kit import refusal


def test_a_folder_where_a_file_should_be_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"^{tmp_path}: is a folder; name a file$"):
        read_text(str(tmp_path))
    assert refusal(f"@{tmp_path}") == f"{tmp_path}: is a folder; name a file"
