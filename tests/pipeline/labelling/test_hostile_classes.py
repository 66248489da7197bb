"""Class files that somebody made to do harm, or by mistake: one line with the file and the place, and exit 2."""

from __future__ import annotations

import json
from pathlib import Path
from time import monotonic

import pytest
from clipmill.pipeline.errors import InputError
from clipmill.pipeline.labelling.classes import read_classes, read_templates
from console import Console, console
from hypothesis import given
from hypothesis import strategies as st
from made import make_dataset

DEEP = 100_000
HOSTILE = {
    "nested lists": ("a.json", "[" * DEEP + "]" * DEEP, "not valid JSON: nested too deeply"),
    "nested objects": ("a.json", '[{"name":' * DEEP, "not valid JSON: nested too deeply"),
    "nested, but not too deeply": ("a.json", "[" * 900 + "]" * 900, "item 1: [[[...]]] is not a name"),
    "a nested name": ("a.json", '[{"name": ' + "[" * 500 + "]" * 500 + "}]", "item 1: name is [[[...]]]; it must be"),
    "a long number to base 60": ("a.yaml", "- " + "1:" * 400_000 + "1", "a number of more than 50,000 digits"),
    "one that is tagged": ("a.yaml", "- !!int " + "1:" * 400_000 + "1", "a number of more than 50,000 digits"),
    "nested YAML": ("a.yaml", "[" * DEEP, "not valid YAML: nested too deeply"),
    "a column name in Latin-1": ("a.csv", "name,catégorie\ncat,x\n".encode("latin-1"), "not UTF-8 text"),
    "a name in Latin-1": ("a.csv", "name\ncafé\n".encode("latin-1"), "not UTF-8 text"),
    "JSON in Latin-1": ("a.json", '["café"]'.encode("latin-1"), "not UTF-8 text"),
    "UTF-16": ("a.csv", "name\ncat\n".encode("utf-16"), "not UTF-8 text"),
    "UTF-16 without its mark": ("a.csv", "name\ncat\n".encode("utf-16-le"), "line 1: holds a NUL character"),
    "NUL in a line": ("a.txt", "cat\ndog\0\n", "line 2: holds a NUL character"),
    "NUL in a cell": ("a.csv", 'name\ncat\n"d\0g"\n', "line 3: holds a NUL character"),
    "NUL in the header": ("a.csv", "name\0\ncat\n", "line 1: holds a NUL character"),
    "NUL in JSON": ("a.json", '["cat",\n"d\0g"]', "line 2: holds a NUL character"),
    "NUL by an escape": ("a.json", r'["cat", "d\u0000g"]', r"item 2: the name 'd\x00g' holds a NUL character; remove"),
    "NUL by an escape of YAML": ("a.yaml", '- {name: cat, id: "\\0"}', r"item 1: the id '\x00' holds a NUL character"),
    "a line without end": ("a.txt", "cat\n" + "x" * 5_000_000, "line 2: the name has 5,000,000 characters; shorten"),
    "a cell without end": ("a.csv", "name\n" + "x" * 5_000_000, "line 2: field larger than field limit"),
    "a long cell": ("a.csv", f"name,id\ncat,{'x' * 5_000}\n", "line 2: the id has 5,000 characters; shorten it to 4,"),
    "a header without end": ("a.csv", ",".join(["x" * 1000] * 1000) + "\n", "the header must be name"),
    "a name without end": ("a.json", json.dumps(["x" * 5_000_000]), "item 1: the name has 5,000,000 characters"),
    "a prompt without end": ("a.json", json.dumps([{"name": "x", "prompts": ["y" * 5000]}]), "item 1: the prompt has"),
    "a field without end": ("a.json", json.dumps([{"x" * 5_000_000: 1}]), "item 1: unknown field 'xxx"),
    "a wide value": ("a.json", json.dumps([list(range(100_000))]), "item 1: [0, 1, 2, ...] is not a name"),
    "a number without end": ("a.json", f'[{{"name": "x", "id": {"9" * 5000}}}]', "not valid JSON: Exceeds the limit"),
    "a hexadecimal number": ("a.yaml", f"- {{name: x, id: 0x{'f' * 5000}}}", "item 1: id is too large a number"),
    "a number as name": ("a.yaml", f"- 0x{'f' * 5000}", "item 1: a number too long to show is not a name"),
    "an integer that is none": ("a.yaml", '- !!int ""', "not valid YAML: "),
    "a date that is none": ("a.yaml", "- !!timestamp x", "not valid YAML: "),
    "a truth that is none": ("a.yaml", "- !!bool x", "not valid YAML: "),
    "a float out of range": ("a.yaml", f"- {':'.join(['1'] * 250)}.5", "not valid YAML: "),
    "a column twice": ("a.csv", "name,name\ncat,dog\n", "once each; it is 'name, name'"),
    "a row that has lost its name": ("a.csv", "name,id\ncat,1\n,2\n", "line 3: no name; write one, or remove"),
    "escapes for the terminal": ("a.csv", "\x1b[2J\ncat\n", r"it is '\x1b[2j'"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_one_short_line_that_names_it(kind: str, tmp_path: Path) -> None:
    name, content, complaint = HOSTILE[kind]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    started = monotonic()
    with pytest.raises(InputError) as raised:
        read_classes(str(path))
    message = str(raised.value)
    assert message.startswith(str(path)) and complaint in message
    assert message.isprintable() and len(message) < 600
    assert monotonic() - started < 10


def test_values_of_aliases_of_aliases_are_not_written_out(tmp_path: Path) -> None:
    levels = ["&l0 [x, x]", *(f"&l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12))]
    (tmp_path / "a.yaml").write_text(f"- {{name: [{', '.join(levels)}]}}\n")
    with pytest.raises(InputError, match=r"item 1: name is \[.{0,100}\]; it must be a text"):
        read_classes(str(tmp_path / "a.yaml"))
    (tmp_path / "b.yaml").write_text("- &a [*a, *a]\n")
    with pytest.raises(InputError, match=r"item 1: .* is not a name"):
        read_classes(str(tmp_path / "b.yaml"))


def test_merges_of_merges_end_soon(tmp_path: Path) -> None:
    levels = [f"l{n}: &l{n} {{<<: [*l{n - 1}, *l{n - 1}]}}" for n in range(1, 60)]
    (tmp_path / "a.yaml").write_text("- {" + ", ".join(["l0: &l0 {a: 1}", *levels]) + "}\n")
    with pytest.raises(InputError, match=r"a\.yaml: not valid YAML: more than 1,000 fields, merged ones included"):
        read_classes(str(tmp_path / "a.yaml"))


def test_aliases_may_share_prompts_within_bounds(tmp_path: Path) -> None:
    def shared(classes: int, prompts: int) -> str:
        first = f"- {{name: first, prompts: &p [{', '.join(['a x'] * prompts)}]}}\n"
        return first + "".join(f"- {{name: n{n}, prompts: *p}}\n" for n in range(classes))

    path = tmp_path / "a.yaml"
    path.write_text(shared(2, 3))
    assert [len(label_class.prompts) for label_class in read_classes(str(path)).every] == [3, 3, 3]
    path.write_text(shared(3_000, 2_000))
    with pytest.raises(InputError, match=r"a\.yaml: class 'n2499': more than 5,000,000 prompts so far; use fewer"):
        read_classes(str(path))


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".json", ".yaml"])
@given(content=st.binary(max_size=60) | st.text(alphabet='[]{}":,|&*!<\0\n -name10éx', max_size=60).map(str.encode))
def test_any_bytes_are_classes_or_one_line(
    suffix: str, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / f"a{suffix}"
    path.write_bytes(content)
    try:
        classes = read_classes(str(path))
    except InputError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        assert classes.every


@pytest.mark.parametrize("content", ["a {}\n\0{}\n", "{}" + "x" * 5_000_000])
def test_hostile_templates_are_one_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / "templates.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=r"templates\.txt: line [12]: .*(NUL character|5,000,002 characters)"):
        read_templates(str(path))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    return console(monkeypatch, capsys)


def test_on_the_command_line_it_is_exit_2(tmp_path: Path, run: Console) -> None:
    make_dataset(tmp_path / "dataset", [{}])
    classes = tmp_path / "classes.json"
    classes.write_text("[" * DEEP)
    ran = run("label", tmp_path / "dataset", "--out", tmp_path / "labels", "--classes", classes)
    assert ran.code == 2
    assert ran.complaint() == f"{classes}: not valid JSON: nested too deeply; write a list of names or of objects"
    assert not (tmp_path / "labels").exists()
