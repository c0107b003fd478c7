"""`tag`: what counts as a label, what does not, and why; nothing that cannot be read becomes a value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.blocks.kinds import Ask, Context
from harness.blocks.prompts import load_pack
from harness.engines.base import Completion
from harness.errors import UserError
from harness.select._reading import NO_VALUE, NOT_ALLOWED, SEVERAL
from harness.select.tag import Tag

LEVELS = ("very easy", "easy", "medium", "hard", "very hard")
PACK = {"tag_difficulty": "how hard is {question} ? {labels}", "rate": "rate {question} -> {answer}"}


def noting(asked: list[Any], say: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Answers like `say`, and keeps what was asked."""

    def said(request: Any) -> Any:
        asked.append(request)
        return say(request)

    return said


def difficulty(**more: Any) -> Tag:
    return Tag(prompt="tag_difficulty", labels=LEVELS, ordered=True, **more)


def told(score: Any, example: Any, text: Any, block: Tag | None = None) -> dict[str, Any]:
    block = block or difficulty()
    columns = score(block, [example("a", "why?", "so")], lambda ask: text, Context(block="tag", prompts=PACK))
    return {name: values[0] for name, values in columns.items()}


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('{"intent": "x", "difficulty": "hard"}', "hard"),
        ('Sure!\n```json\n{"intent": "a } and a {", "difficulty": "Very Easy"}\n```', "very easy"),
        ('{"intent": "line\nbreak", "difficulty": "easy"}', "easy"),
        ("I think it is [[medium]].", "medium"),
        ("It is [hard]", "hard"),
        ("Difficulty: very hard.", "very hard"),
        ("**Hard**", "hard"),
        ("One must know a lot.\nSo the difficulty is hard", "hard"),
        ("easy\n\nbecause one need not know much", "easy"),
        ('{"difficulty": "hard"} or again {"difficulty": "hard"}', "hard"),
    ],
)
def test_a_label_is_read_in_the_forms_that_models_write(score: Any, example: Any, text: str, label: str) -> None:
    got = told(score, example, text)
    assert (got["tag:difficulty"], got["difficulty"]) == (label, LEVELS.index(label) + 1)
    assert got["tag:difficulty.problem"] is None
    assert got["field:difficulty.text"] == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", NO_VALUE),
        ("It is not hard at all, and not easy either", NO_VALUE),
        ('{"difficulty": "impossible"}', NOT_ALLOWED),
        ('{"difficulty": ["hard"]}', NOT_ALLOWED),
        ('{"difficulty": null}', NOT_ALLOWED),
        ('{"difficulty": "hard"} {"difficulty": "easy"}', SEVERAL),
        ("[[hard]] or [[easy]]", SEVERAL),
        ('{"intent": "x", "difficulty": "ha', NO_VALUE),
    ],
)
def test_what_cannot_be_read_is_missing_with_its_reason(score: Any, example: Any, text: str, problem: str) -> None:
    got = told(score, example, text)
    assert (got["tag:difficulty"], got["difficulty"], got["tag:difficulty.problem"]) == (None, None, problem)
    assert got["field:difficulty.text"] == (text or None), "what was said is kept"


def test_a_cut_or_refused_reply_says_so(score: Any, example: Any) -> None:
    cut = Completion(request_id="r", draw=0, text='{"intent": "x', token_ids=(1,), finish="length", prompt_tokens=1)
    assert told(score, example, (cut,))["tag:difficulty.problem"] == "cut by the length cap"
    refused = told(score, example, RuntimeError("prompt of 900 tokens exceeds the context of 512"))
    assert refused["tag:difficulty.problem"] == "refused: prompt of 900 tokens exceeds the context of 512"
    assert refused["field:difficulty.text"] is None


def test_other_keys_of_the_reply_are_kept_where_they_are(score: Any, example: Any) -> None:
    block = difficulty(also=("intent", "knowledge"), keep_text=False)
    got = told(score, example, '{"intent": "to know", "difficulty": "easy"}', block)
    assert (got["field:difficulty.intent"], got["field:difficulty.knowledge"]) == ("to know", None)
    assert "field:difficulty.text" not in got


def test_other_spellings_of_a_label(score: Any, example: Any) -> None:
    """The released exporter makes its own category `Others` null, because it knows `Other` only."""
    block = Tag(prompt="rate", column="category", labels=("Math", "Others"), aliases={"Other": "Others"})
    assert [told(score, example, text, block)["tag:category"] for text in ("Other", "others.", "math")] == [
        "Others",
        "Others",
        "Math",
    ]
    assert block.columns() == ("tag:category", "tag:category.problem", "field:category.text")


@pytest.mark.parametrize(
    ("text", "value", "problem"),
    [
        ("4", 4.0, None),
        ("Rating: [[4.5]]", 4.5, None),
        ("Score: 3/5", 3.0, None),
        ('{"rating": "2"}', 2.0, None),
        ("6", None, NO_VALUE),
        ('{"rating": 6}', None, NOT_ALLOWED),
        ('{"rating": true}', None, NOT_ALLOWED),
        ("4 5", None, NO_VALUE),
        ("nan", None, NO_VALUE),
    ],
)
def test_numbers_of_a_scale(score: Any, example: Any, text: str, value: float | None, problem: str | None) -> None:
    block = Tag(prompt="rate", column="rating", scale=(1, 5))
    got = told(score, example, text, block)
    assert (got["rating"], got["tag:rating.problem"]) == (value, problem)
    assert "tag:rating" not in got


def test_the_pack_says_how_its_reply_is_read(score: Any, example: Any) -> None:
    """The pocket pack's `rate` ends with the rating; a number before it is not one."""
    prompts = {**PACK, "rate.parse": "rating : (10|[1-9])$", "rate.system": "be fair"}
    block, asked = Tag(prompt="rate", scale=(1, 10)), []

    def say(ask: Ask) -> str:
        asked.append(ask)
        return "3 + 4 = 7\nrating : 9" if len(asked) == 1 else "9"

    rows = [example("a", "3 + 4", "7"), example("b", "3 + 5", "7")]
    got = score(block, rows, say, Context(block="tag", prompts=prompts))
    assert got["rate"] == [9.0, None]
    assert got["tag:rate.problem"] == [None, NO_VALUE]
    assert [m["role"] for m in asked[0].messages] == ["system", "user"]
    assert asked[0].messages[-1]["content"] == "rate 3 + 4 -> 7"


def test_a_row_without_what_the_prompt_shows_is_not_asked_about(score: Any, example: Any) -> None:
    prompts = {"grounded": "does {document} say {answer} ?"}
    rows = [
        example("a", "q", "yes", fields={"document": "a page"}),
        example("b", "q", None, fields={"document": "a page"}),
        example("c", "q", "yes"),
    ]
    asked: list[Ask] = []
    block = Tag(prompt="grounded", labels=("yes", "no"))
    got = score(block, rows, noting(asked, lambda ask: "yes"), Context(prompts=prompts))
    assert got["tag:grounded"] == ["yes", None, None]
    assert got["tag:grounded.problem"] == [None, "no answer", "no document"]
    assert [ask.messages[0]["content"] for ask in asked] == ["does a page say yes ?"]


def test_sampled_labels_have_a_seed_of_their_own(score: Any, example: Any) -> None:
    asked: list[Ask] = []
    block = difficulty(temperature=0.7)
    rows = [example(name, "why?", "so") for name in "ab"]
    score(block, rows, noting(asked, lambda ask: "hard"), Context(block="tag", prompts=PACK))
    assert len({ask.fixed_seed for ask in asked}) == 2
    assert block.is_random()
    assert not difficulty().is_random()


def test_a_pack_without_the_entry_is_a_clear_error(score: Any, example: Any) -> None:
    with pytest.raises(UserError, match="tag with `prompt: tag_difficulty` needs the prompt 'tag_difficulty'"):
        score(difficulty(), [example("a", "why?", "so")], str, Context(prompts={}))


@pytest.mark.parametrize("entry", ["tag_quality", "tag_difficulty", "tag_category", "tag_safety"])
def test_the_general_pack_asks_for_what_is_read(score: Any, example: Any, entry: str) -> None:
    """The form that each entry asks for, filled in, is read; the row's text with braces in it does not matter."""
    name = entry.removeprefix("tag_")
    block = Tag(prompt=entry, labels=("yes", "no"))
    asked: list[Ask] = []

    def say(ask: Ask) -> str:
        asked.append(ask)
        return (
            ask.messages[-1]["content"].rpartition("nothing else: ")[2].replace(f'"{name}": "..."', f'"{name}": "no"')
        )

    rows = [example("a", "print({1: '}'})", "{ok}")]
    got = score(block, rows, say, Context(prompts=load_pack("general").entries))
    assert got[f"tag:{name}"] == ["no"]
    assert "print({1: '}'})" in asked[0].messages[-1]["content"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"labels": ("a",), "scale": (1, 5)},
        {"scale": (5, 1)},
        {"scale": (1, 5), "ordered": True},
        {"labels": ("a",), "aliases": {"b": "c"}},
        {"labels": ("",)},
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Tag(prompt="rate", **options)


def test_released_prompts_are_read_out_of_functions(score: Any, example: Any, tmp_path: Path) -> None:
    """The text is read, not run: the file would fail if it were."""
    file = tmp_path / "utils.py"
    file.write_text(
        "raise SystemExit('run')\n"
        'def rate(input):\n    text = f"Rate ```{input}``` as {{\\"my_rating\\": \\"[good/bad]\\"}}"\n    return text\n'
        "def plain():\n    return 'x'\n"
    )
    block = Tag(prompt="rate", column="quality", key="my_rating", labels=("good", "bad"), released=str(file))
    asked: list[Any] = []
    say = noting(asked, lambda ask: '{"my_rating": "good"}')
    got = score(block, [example("a", "why {x}?", "so")], say, Context(prompts={}))
    assert got["tag:quality"] == ["good"]
    assert asked[0].messages[0]["content"] == 'Rate ```why {x}?``` as {"my_rating": "[good/bad]"}'
    before = block.identity_options()["released"]
    file.write_text(file.read_text().replace("Rate", "Judge"))
    assert block.identity_options()["released"] != before, "the content counts"
    for name in ("plain", "nowhere"):
        lost = Tag(prompt=name, labels=("good",), released=str(file))
        with pytest.raises(
            UserError, match=f"no function '{name}' with one formatted text: its functions are rate, plain"
        ):
            score(lost, [example("a", "why?", "so")], say, Context(prompts={}))
