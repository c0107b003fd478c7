"""`self_instruct`: what it shows, what it refuses, and that similarity is ROUGE-L."""

from __future__ import annotations

from typing import Any

import pytest

from harness.blocks.kinds import Ask, Context
from harness.records.example import Example, Message
from harness.synthesize._novelty import Novelty, words
from harness.synthesize.self_instruct import SelfInstruct, proposals

PACK = {"self_instruct": "{examples}\nwrite {count} more", "propose": "ask a new question about {leaf} ."}


def seeds(count: int = 8) -> list[Example]:
    return [
        Example(
            id=f"s{k}",
            messages=(Message(role="user", content=f"Seed number {k} asks for\nthing {k}."),),
            tags={"category": "math", "leaf": f"math/leaf{k}"},
        )
        for k in range(count)
    ]


def made(synthesize: Any, say: Any, rows: list[Example] | None = None, **options: Any) -> Any:
    context = Context(block="self_instruct-1", prompts=PACK)
    return synthesize(SelfInstruct(**{"rows": 4, **options}), seeds() if rows is None else rows, say, context)


def answering(*replies: Any) -> Any:
    """Proposals in turn, then endless new ones; anything else is answered."""
    given = iter(replies)
    count = iter(range(10_000))

    def say(ask: Ask) -> Any:
        text = ask.messages[-1]["content"]
        if "more" not in text and "new question" not in text:
            return f"answer to {text}"
        fresh = next(count)
        return next(given, f"1. tell a{fresh} b{fresh} c{fresh} d{fresh}\n2. show e{fresh} f{fresh} g{fresh} h{fresh}")

    return say


def test_new_instructions_are_answered(synthesize: Any) -> None:
    done = made(synthesize, answering())
    assert len(done.rows) == 4
    assert [m["role"] for m in done.rows[0].messages] == ["user", "assistant"]
    assert done.rows[0].answer == f"answer to {done.rows[0].messages[0]['content']}"
    assert len({r.id for r in done.rows}) == 4
    prompts = [a for a in done.asked if "more" in a.messages[0]["content"]]
    assert len({a.fixed_seed for a in done.asked}) == len(done.asked)
    assert prompts[0].messages[0]["content"].count("Seed number") == 6
    assert (prompts[0].sampling.temperature, prompts[0].sampling.top_p) == (0.7, 0.5)


def test_later_rounds_show_what_earlier_ones_made(synthesize: Any) -> None:
    done = made(synthesize, answering(), rows=None, batch=1, per_prompt=1)
    shown = [a.messages[0]["content"] for a in done.asked if "more" in a.messages[0]["content"]]
    assert "tell a0" not in shown[0]
    assert shown[-1].count("Seed number") == 6
    assert len([line for line in shown[-1].splitlines() if line[:1].isdigit()]) == 8, "two of its own"


def test_what_is_refused_has_its_reason(synthesize: Any) -> None:
    reply = "\n".join(
        [
            "1. short",
            "2. Draw a picture of the sea at night",
            "3. Seed number 3 asks for thing 3!",
            "4. " + "word " * 200,
            "5. name four quite different birds",
            "6. name four quite different birds",
            "7. ...",
        ]
    )
    done = made(synthesize, answering(reply), rows=None, batch=1)
    assert done.reasons[:6] == [
        "too few words",
        "keyword",
        "similar to an earlier instruction",
        "too many words",
        "similar to an earlier instruction",
        "empty instruction",
    ]
    assert done.rows[0].messages[0]["content"] == "name four quite different birds"


def test_the_last_of_a_cut_list_is_dropped(synthesize: Any) -> None:
    done = made(synthesize, answering(("1. name four red birds\n2. name five bl", "length")), batch=1)
    assert done.reasons[0] == "cut instruction"
    assert done.dropped[0].example.messages[0]["content"] == "name five bl"


def test_proposals_beyond_the_wanted_number_are_counted(synthesize: Any) -> None:
    reply = "\n".join(f"{at}. tell a{at} b{at} c{at} d{at}" for at in range(1, 8))
    done = made(synthesize, answering(reply), rows=None, batch=1)
    assert len(done.rows) == 4
    assert done.reasons == ["more than were wanted"] * 3
    assert done.dropped[-1].example.messages[0]["content"] == "tell a7 b7 c7 d7"
    assert len({row.id for row in (*done.rows, *(d.example for d in done.dropped))}) == 7


def test_it_ends_when_nothing_new_comes(synthesize: Any) -> None:
    done = made(synthesize, lambda ask: "1. name four red birds" if "more" in ask.messages[0]["content"] else "so")
    assert len(done.rows) == 1
    assert set(done.reasons) == {"similar to an earlier instruction"}
    assert sum("more" in a.messages[0]["content"] for a in done.asked) == 16


def test_answers_that_are_no_use_are_dropped(synthesize: Any) -> None:
    def say(ask: Ask) -> Any:
        return "1. name four red birds" if "more" in ask.messages[0]["content"] else ("so", "length")

    assert "cut response" in made(synthesize, say, prompts=1).reasons


def test_one_refused_request_does_not_cost_the_others(synthesize: Any) -> None:
    """All prompts of a round are asked at once."""
    refused = RuntimeError("prompt of 900 tokens exceeds the context of 512")
    asks = answering()
    seen: list[str] = []

    def say(ask: Ask) -> Any:
        seen.append(ask.messages[-1]["content"])
        proposing = "more" in seen[-1]
        first = sum(("more" in text) is proposing for text in seen) == 1
        return refused if first else asks(ask)

    done = made(synthesize, say)
    assert len(done.rows) == 3
    assert done.reasons[0] == "response not possible"
    assert done.dropped[0].example.fields["problem"] == str(refused)


def test_the_pocket_form_hands_on_the_leaf(synthesize: Any) -> None:
    done = made(
        synthesize, answering(*(f"what is {k} plus {k + 1} minus {k + 2}" for k in range(40))), prompt="propose"
    )
    asked = [a.messages[0]["content"] for a in done.asked if "new question" in a.messages[0]["content"]]
    assert all(text.startswith("ask a new question about math leaf") for text in asked)
    assert done.rows[0].tags["category"] == "math"


def test_without_seeds_there_is_nothing_to_follow(synthesize: Any) -> None:
    assert made(synthesize, answering(), rows=[]).reasons == ["no seed instructions"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1. one\n2) two\nTask 3: three", ["one", "two", "three"]),
        ("Sure:\n1. one\nmore of it\n2. two", ["one\nmore of it", "two"]),
        ("just one", ["just one"]),
        ("What is 3.5 plus 2?", ["What is 3.5 plus 2?"]),
    ],
)
def test_numbered_lists(text: str, found: list[str]) -> None:
    assert proposals(text) == found


def test_similarity_is_rouge_l() -> None:
    from random import Random

    from rapidfuzz.distance import Indel
    from rouge_score.rouge_scorer import RougeScorer

    rng, scorer = Random(0), RougeScorer(["rougeL"], use_stemmer=False)
    vocabulary = [f"w{k}" for k in range(12)]
    for _ in range(200):
        one, other = (" ".join(rng.choices(vocabulary, k=rng.randint(1, 15))) for _ in range(2))
        wanted = scorer.score(one, other)["rougeL"].fmeasure
        assert Indel.normalized_similarity(words(one), words(other)) == pytest.approx(wanted, abs=1e-9)
        assert Novelty([one], 0.5).add(other) is (wanted < 0.5)
    novelty = Novelty(["a b c d e f g h i j"], 0.7)
    assert not novelty.add("a b c d e f g x y z"), "7 of 10 words in order are 0.7, which is not new"
    assert novelty.add("a b c d e f x y z w")
