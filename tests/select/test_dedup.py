"""`dedup`: exact and near duplicates, the earliest kept."""

from __future__ import annotations

import random
from typing import Any

import pytest
from pydantic import ValidationError

from harness.select.dedup import Dedup


def test_exact_duplicates_keep_the_earliest(select: Any) -> None:
    prompts = ["Why?", "Who?", " why? ", "Why?", "Why"]
    assert select(Dedup(), prompt=prompts) == [None, None, "duplicate", "duplicate", None]
    assert select(Dedup(on="conversation"), digest=["1", "2", "1"]) == [None, None, "duplicate"]


def words(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return [f"w{rng.randrange(500)}" for _ in range(count)]


def test_near_duplicates_are_found_and_nothing_less_similar_is(select: Any) -> None:
    base = [words(k, 60) for k in range(300)]
    near = [[*text[:-2], "other", "end"] for text in base]
    far = [[*text[:30], *words(1000 + k, 30)] for k, text in enumerate(base)]
    got = select(Dedup(near=0.8), prompt=[" ".join(text) for text in base + near + far])
    assert got[:300] == [None] * 300
    assert got[300:600] == ["near duplicate"] * 300
    assert got[600:] == [None] * 300


def test_near_duplicates_are_compared_with_kept_rows_only(select: Any) -> None:
    """A ~ B ~ C, A unlike C: B falls, C stays."""
    text = words(1, 100)
    chain = [text, [*text[:-8], *words(2, 8)], [*words(3, 8), *text[8:-8], *words(2, 8)]]
    joined = [" ".join(t) for t in chain]
    assert select(Dedup(near=0.8, shingle=1), prompt=joined) == [None, "near duplicate", None]
    assert select(Dedup(near=0.8, shingle=1), prompt=joined[1:]) == [None, "near duplicate"]


def test_near_duplicates_of_conversations_see_the_answer(select: Any) -> None:
    prompts, digests = ["Tell me more about it"] * 3, ["1", "2", "3"]
    answers = [" ".join(words(1, 40)), " ".join([*words(1, 39), "else"]), " ".join(words(2, 40))]
    got = select(Dedup(on="conversation", near=0.8), prompt=prompts, answer=answers, digest=digests)
    assert got == [None, "near duplicate", None]
    assert Dedup(on="conversation").needs() == ("digest",), "texts are read only where they are compared"


def test_an_exact_duplicate_is_not_counted_as_near_and_chunks_see_each_other(select: Any) -> None:
    texts = [" ".join(words(k, 12)) for k in range(5000)]
    got = select(Dedup(near=0.85), prompt=[*texts, texts[3], texts[4] + " and"])
    assert got == [*[None] * 5000, "duplicate", "near duplicate"]


def test_texts_without_words_are_no_duplicates_of_each_other(select: Any) -> None:
    texts = ["🎉🎊🥳🎂🎈🎁 🎉🎉", "😢💔", "+ - * /", "<= >= == !=", "?!", "🎉🎊🥳🎂🎈🎁 🎉🎉!"]
    got = select(Dedup(near=0.7), prompt=texts)
    assert got == [None, None, None, None, None, "near duplicate"]


def test_texts_of_scripts_without_spaces_are_compared_by_characters(select: Any) -> None:
    """To word runs, each of these is one word, and two that differ in a letter have nothing in common."""
    one = "请用简单的语言解释光合作用是如何进行的，并举一个日常生活中的例子来说明它的重要性。"
    other = "写一首关于秋天的短诗，要求每行不超过七个字，并且押韵。最后请解释这首诗的含义。"
    kana = "ひかりごうせいのしくみを、こどもにもわかるように、やさしいことばでせつめいしてください"
    near = [one.replace("日常", "平常"), other + "谢谢", kana + "。"]
    assert select(Dedup(near=0.6), prompt=[one, other, kana, *near]) == [None, None, None, *["near duplicate"] * 3]


@pytest.mark.parametrize("options", [{"near": 0}, {"near": 1.2}, {"shingle": 0}, {"on": "id"}])
def test_dedup_refuses_options_without_meaning(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Dedup(**options)
