"""Rules about answers: the truth table of ReAlign's post-filter as paper and code have it, and our additions."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.judges.textrules import CODE, NUMBERS, PLAN, RESULT, SAME_END, Case, TextRules, result_kept
from harness.records.tasks import load_tasks

DATA = Path(os.environ.get("LOOPBENCH_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared/data") / "realign"
SHORT = "much shorter than the original"
FENCED = "```python\nx = 1\n```"


def words(text: str) -> int:
    return len(text.split())


def broken(rules: TextRules, original: str, answer: str, question: str = "", *checks: Any) -> str | None:
    case = Case(answer=answer, question=question, original=original, checks=frozenset(checks), length=words)
    return rules.broken(case)


@pytest.mark.parametrize(
    ("preset", "original", "answer", "reason"),
    [
        # exactly half the length: too short for the code, not for the paper
        ("paper", "a b c d", "a b", None),
        ("paper", "a b c d", "a", SHORT),
        ("alpaca", "a b c d", "a b", SHORT),
        ("alpaca", "a b c d", "a b c", None),
        ("platypus", "a b c d", "a b", SHORT),
        ("no_robots", "a b c d", "a b", SHORT),
        # code in one of the two: the code applies it to all rows, the paper to code tasks
        ("paper", "a b", f"a b {FENCED}", None),
        ("alpaca", "a b", f"a b {FENCED}", CODE),
        ("alpaca", f"a b {FENCED}", "a b c d e", CODE),
        ("alpaca", f"a {FENCED}", f"b {FENCED}", None),
        ("alpaca", "a b", "def f(x): return x", CODE),
        ("alpaca", "a b", "a def c", None),
        # one character: only the Platypus selector looks, and then at nothing else
        ("platypus", "B", "The answer is B.", None),
        ("platypus", "B", "The answer is Because", RESULT),
        ("platypus", "True", "no", None),
        ("platypus", "B", f"B {FENCED}", None),
        ("alpaca", "B", "C", None),
        # the label that the rewriter was told to write is still there
        ("no_robots", "a b", "Revised response: a b", "banned text"),
        ("paper", "a b", "Revised response: a b", None),
    ],
)
def test_presets_decide_as_paper_and_released_code_do(
    preset: Any, original: str, answer: str, reason: str | None
) -> None:
    assert broken(TextRules(preset=preset), original, answer) == reason


def test_the_papers_rules_for_single_tasks() -> None:
    paper = TextRules(preset="paper")
    assert broken(paper, "a b", f"a b {FENCED}", "", "code") == CODE
    assert broken(paper, "C", "It is D.", "", "result") == RESULT
    assert broken(paper, "C", "It is (C).", "", "result") is None
    assert broken(paper, "C", "It is D.") is None
    assert broken(paper, "a b", "a b c", "Write a trip.", "plan") == PLAN
    assert broken(paper, "a b", "a b c", "Write a plan.", "plan") is None


@pytest.mark.parametrize("preset", ["paper", "no_robots"])
def test_plan_words_differ_by_a_space(preset: Any) -> None:
    question = "Plan a trip."  # the code looks for a space before the word
    said = broken(TextRules(preset=preset), "a b", "a b c", question, "plan")
    assert said == (None if preset == "paper" else PLAN)


@pytest.mark.parametrize("bare", ["?", "+", "(", "*", "."])
def test_an_original_of_one_punctuation_mark_is_text_not_a_pattern(bare: str) -> None:
    """The released code puts the character into a regular expression as it is, where `?` or `(` raises."""
    assert broken(TextRules(preset="platypus"), bare, f"so {bare} it is") is None
    assert broken(TextRules(preset="platypus"), bare, "nothing of it") == RESULT


def test_a_changed_truth_value_is_noticed_by_the_papers_rule_only() -> None:
    """The released selector takes any rewrite of `True`."""
    assert broken(TextRules(preset="platypus"), "True", "This is wrong.", "", "result") is None
    assert broken(TextRules(preset="paper"), "True", "This is wrong.", "", "result") == RESULT


@pytest.mark.parametrize(
    ("original", "answer", "kept"),
    [
        ("42", "so it is 42.", True),
        ("42", "so it is 142", False),
        ("42", "so it is 42.5", False),
        ("42", "so it is 3.42", False),
        ("A", "it is A", True),
        ("A", "it is a train", False),
        ("True", "this is true", True),
        ("B.", "B", True),
        ("(B)", "it is B, because", True),
        ("B)", "it is C", False),
        ("1000", "it is 1,000.", True),
        ("12", "it is 12.5", False),
        ("a whole sentence", "another", True),
    ],
)
def test_a_bare_result_has_to_occur(original: str, answer: str, kept: bool) -> None:
    assert result_kept(original, answer) is kept


def test_numbers_and_results_are_compared_only_where_asked_for() -> None:
    assert broken(TextRules(preset="paper"), "3 + 4 = 7", "It is 8 in all, they say", "", "numbers") is None
    rules = TextRules(numbers="checked", same_end="checked")
    assert broken(rules, "3 + 4 = 7", "First, 3 and 4. The result is 7.", "", "numbers") is None
    assert broken(rules, "3 + 4 = 7", "First, 3. The result is 7.", "", "numbers") == NUMBERS
    assert broken(rules, "3 + 4 = 7", "7 comes from 3 and 4.", "", "numbers") == SAME_END
    assert broken(rules, "1,000 dollars", "It is 1000.", "", "numbers") is None
    assert broken(rules, "3 + 4 = 7", "nothing") is None, "the row's task is not checked for numbers"
    assert broken(TextRules(same_end="all"), "so 7", "so 8") == SAME_END
    assert broken(TextRules(same_end="all"), "so 7", "so seven") == SAME_END
    assert broken(TextRules(same_end="all"), "by induction", "1. by induction") is None, "there is no number to keep"


def test_rules_that_say_nothing_or_contradict_each_other() -> None:
    assert not TextRules(shorter_or_equal=True).says_anything(), "it is about `shorter`, which is not set"
    assert TextRules(preset="alpaca").says_anything()
    with pytest.raises(ValidationError, match="no answer is both `least` 5 and `most` 2 long"):
        TextRules(least=5, most=2)


@pytest.mark.parametrize(
    ("options", "answer", "reason"),
    [
        ({"least": 2}, "one", "too short"),
        ({"most": 2}, "one two three", "too long"),
        ({"has": ("because", "since")}, "it is so", "keyword missing"),
        ({"has": ("because", "since")}, "since it is", None),
        ({"lacks": ("As an AI",)}, "As an AI model", "banned text"),
        ({"pattern": "[0-9]"}, "none", "pattern not found"),
        ({"parse": "json"}, "{'a': 1}", "no json"),
        ({"parse": "json"}, 'so:\n```json\n{"a": 1}\n```', None),
        ({"parse": "python"}, "x = (", "no python"),
        ({"parse": "python"}, "```python\nx = 1\n```", None),
        ({"parse": "number"}, "none", "no number"),
        ({"parse": "number"}, "it is 4", None),
        ({"shorter": 0.5}, "anything", None),
    ],
)
def test_rules_about_an_answer_by_itself(options: dict[str, Any], answer: str, reason: str | None) -> None:
    assert TextRules(**options).broken(Case(answer=answer, length=words)) == reason


def test_rules_beside_a_preset_replace_its_own() -> None:
    rules = TextRules.model_validate({"preset": "paper", "shorter": 0.25})
    assert (rules.shorter, rules.code) == (0.25, "checked")
    assert TextRules.model_validate("paper") == TextRules(preset="paper")


@pytest.mark.parametrize("options", [{"preset": "llama"}, {"pattern": "("}, {"shorter": 0}, {"shortest": 3}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TextRules(**options)


@pytest.mark.skipif(not DATA.is_dir(), reason="ReAlign's NQ pairs are not there (LOOPBENCH_SHARED_DATA)")
@pytest.mark.parametrize(("preset", "kept"), [("platypus", 45), ("alpaca", 45), ("no_robots", 44)])
def test_the_released_selectors_keep_as_many_of_the_authors_pairs(preset: Any, kept: int) -> None:
    """Counts of `rewrite_data_selection.py` (GAIR-NLP/ReAlign at 65e66d3), run unchanged on the 100 pairs.

    Its tokenizer was one that splits at white space and puts one token before the text. All 100 decisions were equal.
    """
    pairs = [
        json.loads((DATA / f"nq_factuality_100_{name}.json").read_text(encoding="utf-8"))
        for name in ("ChatGPT_response", "realign")
    ]
    texts = [[row["items"][1]["value"] for row in rows] for rows in pairs]
    tasks = [load_tasks("realign").by_name[row["items"][0]["category"]] for row in pairs[1]]
    rules, found = TextRules(preset=preset), 0
    for before, after, task in zip(*texts, tasks, strict=True):
        left_alone = preset == "no_robots" and task.name == "default"  # a rule there, the taxonomy's business here
        found += not left_alone and broken(rules, before, after, "", *task.checks) is None
    assert found == kept
