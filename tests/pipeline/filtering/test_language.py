"""What is English: roughly by ourselves, by what is installed, or by a function of one's own."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
from clipmill.pipeline.errors import UserError
from clipmill.pipeline.filtering import language

ENGLISH = [
    "a photo of two dogs running on the beach",
    "Vintage wooden chair with red cushion",
    "The mayor speaks at the opening of the new library in 2014",
    "Women's running shoes, black and white",
    "Chocolate cake recipe",
    "Sunset over the mountains",
    "Men’s leather jacket",
    "small blue fish above a green star",
]
OTHERS = [
    "ein Foto von zwei Hunden am Strand",
    "Chaise en bois ancienne avec coussin rouge",
    "El alcalde habla en la inauguración de la biblioteca",
    "Scarpe da corsa da donna, nere e bianche",
    "Receita de bolo de chocolate para o aniversário",
    "Zonsondergang boven de bergen van Zwitserland",
    "Zachód słońca nad górami",
    "Kadın koşu ayakkabısı siyah beyaz",
    "Matahari terbenam di atas pegunungan",
    "海の上の夕日",
    "Закат над горами",
    "غروب الشمس فوق الجبال",
    "해변을 달리는 두 마리의 개",
]


def test_the_rough_guess_is_right_on_plain_captions() -> None:
    assert language.rough(ENGLISH) == [True] * len(ENGLISH)
    assert language.rough(OTHERS) == [False] * len(OTHERS)


@pytest.mark.parametrize("text", ["", "   ", "2019", "!?", "—", "№ 43384", "\x00"])
def test_what_has_no_words_is_not_english(text: str) -> None:
    assert language.rough([text]) == [False]


def test_a_function_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("of_my_own")
    module.codes = lambda texts: ["en" if "the" in text else "de" for text in texts]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "of_my_own", module)
    assert language.english("of_my_own:codes")(["the cat", "die Katze"]) == [True, False]


def test_lingua_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The part of lingua 2.1 that is used."""
    builder = SimpleNamespace(from_all_languages=lambda: builder, build=lambda: detector)
    detector = SimpleNamespace(
        detect_languages_in_parallel_of=lambda texts: ["EN" if "the" in t else None for t in texts]
    )
    fake = SimpleNamespace(LanguageDetectorBuilder=builder, Language=SimpleNamespace(ENGLISH="EN"))
    monkeypatch.setitem(sys.modules, "lingua", fake)  # type: ignore[arg-type]
    language._lingua.cache_clear()
    assert language.english("lingua")(["the cat", "2019"]) == [True, False]
    language._lingua.cache_clear()


def test_fasttext_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The part of fastText 0.9 that is used; its model takes one line."""

    def load_model(path: str) -> SimpleNamespace:
        if path != "lid.bin":
            raise ValueError(f"{path} cannot be opened for loading!")
        return SimpleNamespace(f=SimpleNamespace(predict=predict))

    def predict(line: str, k: int, threshold: float, on_error: str) -> list[tuple[float, str]]:
        assert line.count("\n") == 1 and line.endswith("\n") and k == 1
        return [(0.9, "__label__en" if "the" in line else "__label__de")] if line.strip() else []

    monkeypatch.setitem(sys.modules, "fasttext", SimpleNamespace(load_model=load_model))  # type: ignore[arg-type]
    assert language.english("fasttext=lid.bin")(["the\ncat", "die Katze", ""]) == [True, False, False]
    with pytest.raises(UserError, match=r"fasttext=no\.bin: no\.bin cannot be opened"):
        language.english("fasttext=no.bin")
    language._fasttext.cache_clear()


@pytest.mark.parametrize(
    ("detector", "complaint"),
    [
        ("lingua", "lingua: not installed; pip install 'clipmill.language.'"),
        ("fasttext=x", "fasttext: not installed"),
        ("fasttext", "must be rough, lingua, fasttext=MODEL"),
        ("cld3", "must be rough"),
        (":f", "must be rough"),
        (".x:f", "must be rough"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("json:no_such", "has no attribute 'no_such'"),
    ],
)
def test_a_detector_that_is_not_there(detector: str, complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("lingua", "fasttext"):
        monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=complaint):
        language.english(detector)
