"""`language`: codes of plain sentences, and no code where there is nothing to read."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import UserError
from harness.select.language import Language

SAID = {
    "en": "Please explain how photosynthesis works in simple words.",
    "de": "Kannst du mir bitte erklären, wie man einen Kuchen backt?",
    "fr": "Pourriez-vous m'expliquer comment fonctionne un moteur ?",
    "es": "¿Puedes explicarme cómo funciona la inteligencia artificial?",
    "zh": "请用简单的话解释一下什么是机器学习。",
    "ja": "この文章を日本語に翻訳してください。",
}


def test_languages_of_plain_questions(score: Any, example: Any) -> None:
    rows = [example(code, text, "12") for code, text in SAID.items()]
    got = score(Language(), rows)
    assert got["tag:language"] == list(SAID)
    assert all(0.5 < sure <= 1 for sure in got["language_sureness"])


def test_a_text_without_letters_has_no_language(score: Any, example: Any) -> None:
    rows = [example("a", "1 + 1 = ?", None), example("b", "so", "C'est une très belle journée aujourd'hui.")]
    assert score(Language(), rows[:1]) == {"tag:language": [None], "language_sureness": [None]}
    assert score(Language(of="answer"), rows)["tag:language"] == [None, "fr"]
    assert score(Language(least=0.9), [example("c", "ok", None)])["tag:language"] == [None]


def test_the_languages_that_come_into_question(score: Any, example: Any) -> None:
    rows = [example(code, text, "12") for code, text in SAID.items()]
    assert set(score(Language(among=("en", "fr")), rows)["tag:language"]) <= {"en", "fr"}
    assert score(Language(), rows)["tag:language"] == list(SAID), "one block does not change another"
    with pytest.raises(UserError, match="`among` is not understood .*xx.*ISO 639-1"):
        score(Language(among=("xx",)), rows)
