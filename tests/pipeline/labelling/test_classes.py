"""Class names and templates from files of four kinds; what is wrong with one is said with its place."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import yaml
from clipmill.clipmodel.templates import LANGUAGES, TEMPLATES
from clipmill.pipeline.errors import InputError
from clipmill.pipeline.labelling.classes import Classes, LabelClass, read_classes, read_templates
from hypothesis import given
from hypothesis import strategies as st


def classes_of(folder: Path, name: str, content: str | bytes) -> Classes:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_classes(str(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "cat\n\n  fire engine \r\n"),
        ("a", "\ufeffcat\nfire engine"),
        ("a.csv", "name\ncat\nfire engine\n"),
        ("a.json", '["cat", "fire engine"]'),
        ("a.yaml", "- cat\n- fire engine\n"),
    ],
)
def test_names_alone_are_numbered_from_nought(name: str, content: str, tmp_path: Path) -> None:
    assert classes_of(tmp_path, name, content).every == (LabelClass("cat", 0), LabelClass("fire engine", 1))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'id, Name ,prompts\n7,cat,"a cat | my {}, asleep"\n-8,"dog, wet",\n'),
        (
            "a.json",
            '[{"name": "cat", "id": 7, "prompts": ["a cat", "my {}, asleep"]}, {"name": "dog, wet", "id": "-8"}]',
        ),
        ("a.yml", '- {name: cat, id: 7, prompts: [a cat, "my {}, asleep"]}\n- {name: "dog, wet", id: -8}\n'),
    ],
)
def test_ids_and_prompts_of_their_own(name: str, content: str, tmp_path: Path) -> None:
    classes = classes_of(tmp_path, name, content)
    assert classes.every == (LabelClass("cat", 7, ("a cat", "my {}, asleep")), LabelClass("dog, wet", -8))
    assert list(classes.prompts(["a {}."])) == [["a cat", "my cat, asleep"], ["a dog, wet."]]


def test_ids_that_are_no_numbers_stay_texts(tmp_path: Path) -> None:
    assert classes_of(tmp_path, "a.csv", "id,name\nn01,crane\n007,crane\n").ids == ["n01", "007"]
    assert classes_of(tmp_path, "b.csv", "id,name\n01,cat\n2,dog\n").ids == ["01", "2"]


def test_the_digest_tells_other_classes_apart(tmp_path: Path) -> None:
    texts = ("cat\ndog", "dog\ncat", "cat\ndogs")
    assert len({classes_of(tmp_path, "a.txt", text).digest for text in texts}) == 3


name = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1).filter(lambda name: name != "none")
names = st.lists(name, min_size=1, unique=True)


@given(names)
def test_all_formats_say_the_same(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("classes")
    rows = io.StringIO()
    csv.writer(rows).writerows([["name"], *([name] for name in names)])
    read = [
        classes_of(folder, "a.csv", rows.getvalue()),
        classes_of(folder, "a.json", json.dumps(names)),
        classes_of(folder, "a.yaml", yaml.safe_dump(names, allow_unicode=True)),
    ]
    assert all(classes.names == names for classes in read)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.txt", "\n \n", "no class in it"),
        ("a.txt", b"caf\xe9\n", "not UTF-8 text"),
        ("a.txt", "cat\ndog\ncat\n", "name 'cat' is there 2 times"),
        ("a.csv", "title\ncat\n", "the header must be name"),
        ("a.csv", "", "the header must be name, and perhaps id and prompts, once each; it is missing"),
        ("a.csv", "name,id\ncat,1\ncrane, bird,2\n", "line 3: more cells than the header"),
        ("a.csv", "name,id\ncat,1\ndog,1\n", "id 1 is there 2 times"),
        ("a.csv", "name,id\ncat,1\ndog,\n", "class 'dog' has no id"),
        (
            "a.csv",
            'name,id\n"orange circle,1\nblue square,2\n',
            "not valid CSV: line 3: unexpected end of data; close every quote",
        ),
        ("a.csv", '"name\ncat\n', "not valid CSV: line 2: unexpected end of data"),
        ("a.csv", 'name\n"a cat" asleep\n', "not valid CSV: line 2: ',' expected after"),
        ("a.csv", f"name\n{'x' * 131_073}\n", "not valid CSV: line 2: field larger than field limit"),
        ("a.txt", "cat\nnone\n", "a class cannot be called none"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", f"[{'9' * 5000}]", "not valid JSON: Exceeds the limit"),
        ("a.json", '["cat", "\\ud800"]', r"item 2: the name '\ud800' holds half of a surrogate pair"),
        ("a.json", '[{"name": "cat", "id": "\\udc00"}]', r"item 1: the id '\udc00' holds half"),
        (
            "a.json",
            '[{"name": "cat", "prompts": ["a {}", "\\ud800 {}"]}]',
            r"item 1: the prompt '\ud800 {}' holds half of a surrogate pair",
        ),
        ("a.json", '{"cat": 1}', "must be a list"),
        ("a.json", '["cat", 3]', "item 2: 3 is not a name; put it in quotes"),
        ("a.json", '[{"name": ""}]', "item 1: name is ''"),
        ("a.json", '[{"name": "cat", "ids": 3}]', "item 1: unknown field 'ids'"),
        ("a.json", '[{"name": "cat", "id": 1.5}]', "item 1: id is 1.5"),
        ("a.json", '[{"name": "cat", "prompts": [3]}]', "item 1: prompts must be a list of texts"),
        ("a.yaml", "- cat\n- no\n", "item 2: False is not a name; put it in quotes"),
        ("a.yaml", "- [", "not valid YAML"),
        ("a.yaml", "- cat\n- 2024-13-45\n", "not valid YAML: month must be in 1..12; put names that look like a date"),
        ("a.yaml", '- "\\ud800"\n', r"item 1: the name '\ud800' holds half"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_file(name: str, content: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^[^\n]*$") as raised:
        classes_of(tmp_path, name, content)
    assert str(raised.value).startswith(str(tmp_path / name)) and complaint in str(raised.value)


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.txt: no such file"):
        read_classes(str(tmp_path / "no.txt"))


def test_templates_by_name_as_text_or_from_a_file(tmp_path: Path) -> None:
    assert read_templates("photo") == TEMPLATES["photo"]
    assert read_templates("an {} in oil") == ("an {} in oil",)
    (tmp_path / "t.txt").write_text("a {}\n\nthe {}\n")
    assert read_templates(str(tmp_path / "t.txt")) == ("a {}", "the {}")


def test_templates_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--templates foto: not a built-in set"):
        read_templates("foto")
    (tmp_path / "t.txt").write_text("a {}\nthe thing\n")
    with pytest.raises(InputError, match="'the thing' has no"):
        read_templates(str(tmp_path / "t.txt"))
    (tmp_path / "t.txt").write_text("\n")
    with pytest.raises(InputError, match="no template in it"):
        read_templates(str(tmp_path / "t.txt"))


def test_a_language_has_templates_of_its_own_each_with_one_place_for_the_name() -> None:
    sets = [read_templates(language) for language in LANGUAGES]
    assert len(sets) >= 12 and read_templates("de")[1].format("Hund") == "ein Foto: Hund"
    assert all(template.count("{}") == 1 for templates in sets for template in templates)
    assert all(templates[0] == "{}" and len(set(templates)) == len(templates) for templates in sets)
    own = [template for templates in sets for template in templates[1:]]
    assert len(set(own) - set(TEMPLATES["photo"])) >= len(own) - 1  # one that Spanish and Italian share
