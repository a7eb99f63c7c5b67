"""Names of studies and of what is named after them: every one that is accepted can be written."""

import pytest

from search.arguments import study_name
from search.errors import UserError
from search.names import LONGEST, can_name, check_text, shortened


@pytest.mark.parametrize("character", ["x", "é", "数", "𠀀"])
def test_a_name_has_so_many_bytes_whatever_its_characters(tmp_path, character):
    count = LONGEST // len(character.encode())
    assert can_name(character * count) and not can_name(character * (count + 1))
    long = shortened(character * 300)
    assert LONGEST - 4 < len(long.encode()) <= LONGEST and long.startswith(character * 40)
    (tmp_path / f".{long}.safetensors.0123456789abcdef.tmp").touch()
    assert shortened(character * 300) == long != shortened(character * 301)
    assert shortened(character * count) == character * count
    with pytest.raises(UserError, match=f"--name is made of .* at most {LONGEST} bytes"):
        study_name("mnist", 0.9, "extended", character * (count + 1))


@pytest.mark.parametrize("folder", ["x" * 255, "数" * 85, "𠀀" * 63])
def test_the_longest_folder_names_a_study(tmp_path, folder):
    (tmp_path / folder).mkdir()
    assert can_name(study_name(str(tmp_path / folder), 0.123456, "extended"))


def test_arguments_that_are_no_text_are_refused():
    check_text(["search", "数/é", ""])
    with pytest.raises(UserError, match=r"^--results=r\\xff is not UTF-8: rename it"):
        check_text(["search", "--results=r\udcff"])


def test_a_results_path_that_is_not_utf8_is_refused_in_one_line(wavemix, tmp_path):
    path = f"{tmp_path}/r\udcff"
    said = wavemix("train", "mnist", "--config", "{}", "--results", path, code=2)
    assert said.err == f"wavemix: {tmp_path}/r\\xff is not UTF-8: rename it, or reach it by another path\n"
