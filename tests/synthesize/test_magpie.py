"""`magpie`: what is asked of the model, what is dropped and why, and how feedback steers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from letters_chat import Chat
from pydantic import ValidationError

from harness import config
from harness.blocks import registry
from harness.blocks.kinds import Ask, Completion, Context, Feedback, Weakness
from harness.errors import ConfigError, UserError
from harness.synthesize._focus import scheduled, weights
from harness.synthesize._sanitise import sanitise
from harness.synthesize.magpie import Magpie

CHATS: Any = {"teacher": Chat(), "other": Chat()}
WEAK = Feedback(categories=(Weakness(category="math", score=0.1, n=100), Weakness(category="coding", score=0.7, n=100)))


def context(**more: Any) -> Context:
    return Context(block="magpie", chats=CHATS, **more)


def both(instruction: Any, response: Any = "ok") -> Callable[[Ask], Any]:
    return lambda ask: instruction if ask.speaker == "user" else response


def test_a_row_is_a_self_written_turn_and_its_answer(synthesize: Any) -> None:
    made = synthesize(Magpie(rows=2), [], both(" why?\n", " because "), context(iteration=3))
    assert [[m["content"] for m in r.messages] for r in made.rows] == [["why?", "because"]] * 2
    assert [r.id for r in made.rows] == ["magpie/3/0", "magpie/3/1"]
    assert made.rows[0].tags == {}


def test_two_steps_of_one_iteration_share_neither_ids_nor_groups(synthesize: Any) -> None:
    """`Context.block` tells two definitions of a stage apart; the name of the block does not."""
    one, other = (
        synthesize(Magpie(rows=2, system=text), [], both("why?"), Context(block=f"magpie-{text}", chats=CHATS)).rows
        for text in ("a", "b")
    )
    assert not {row.id for row in one} & {row.id for row in other}
    assert not {row.group for row in one} & {row.group for row in other}
    assert {row.origin.block for row in (*one, *other)} == {"magpie"}


def test_the_papers_sampling_is_the_default(synthesize: Any) -> None:
    question, answer = synthesize(Magpie(rows=1), [], both("why?"), context()).asked
    assert (question.speaker, question.messages) == ("user", ())
    assert (question.sampling.temperature, question.sampling.top_p) == (1.0, 1.0)
    assert question.sampling.stop == (), "no textual stop: questions may mention assistants"
    assert question.sampling.stop_ids == (7, 9)
    assert (answer.speaker, answer.sampling.temperature) == ("assistant", 0.0)
    assert [m["content"] for m in answer.messages] == ["why?"]
    assert question.fixed_seed != answer.fixed_seed


def test_another_model_can_answer(synthesize: Any) -> None:
    block = Magpie(rows=1, responder="other")
    assert [a.model for a in synthesize(block, [], both("why?"), context()).asked] == ["teacher", "other"]
    assert block.roles() == {"model": "teacher", "responder": "other"}
    assert Magpie().roles() == {"model": "teacher"}


@pytest.mark.parametrize(
    ("instruction", "response", "reason", "asked"),
    [
        ("  ", "x", "empty instruction", 1),
        (("why", "length"), "x", "cut instruction", 1),
        ("why?", "", "empty response", 2),
        ("why?", ("because", "length"), "cut response", 2),
    ],
)
def test_drops_have_reasons(synthesize: Any, instruction: Any, response: Any, reason: str, asked: int) -> None:
    made = synthesize(Magpie(rows=1), [], both(instruction, response), context())
    assert (made.rows, made.reasons) == ([], [reason])
    assert len(made.asked) == asked, "nothing is asked about a dropped instruction"


@pytest.mark.parametrize("which", ["user", "assistant"])
def test_what_does_not_fit_the_context_is_dropped_with_its_words(synthesize: Any, which: str) -> None:
    refused = RuntimeError("prompt of 300 tokens exceeds the context of 256")
    made = synthesize(Magpie(rows=1), [], lambda ask: refused if ask.speaker == which else "why?", context())
    assert made.reasons == ["instruction not possible" if which == "user" else "response not possible"]
    assert made.dropped[0].example.fields["made"][0]["problem"] == str(refused)
    assert [m["content"] for m in made.dropped[0].example.messages] == ([] if which == "user" else ["why?"])


def test_cut_responses_can_be_kept_but_never_cut_instructions(synthesize: Any) -> None:
    block = Magpie(rows=1, keep_cut=True)
    assert synthesize(block, [], both("why?", ("because", "length")), context()).rows[0].answer == "because"
    assert synthesize(block, [], both(("why", "length")), context()).reasons == ["cut instruction"]


def test_bans_and_stops_reach_the_first_ask_only(synthesize: Any) -> None:
    block = Magpie(rows=1, first_bans=("#", "*a"), stop=("\n",), first_temperature=1.2)
    question, answer = synthesize(block, [], both("why?"), context()).asked
    assert question.sampling.first_bans == (ord("#"), ord("*"))
    assert (question.sampling.stop, question.sampling.first_temperature) == (("\n",), 1.2)
    assert (answer.sampling.first_bans, answer.sampling.stop) == ((), ())


def test_a_ban_that_is_no_token_is_a_clear_error(synthesize: Any) -> None:
    class Silent(Chat):
        def encode(self, text: str, special: bool = False) -> tuple[int, ...]:
            return ()

    chats: Any = {"teacher": Silent()}
    with pytest.raises(
        UserError, match="first_bans has '\\\\u200b', which is no token at all for the tokenizer of teacher"
    ):
        synthesize(Magpie(rows=1, first_bans=("\u200b",)), [], both("why?"), Context(block="magpie", chats=chats))


def test_a_system_turn_steers_the_question_not_the_answer(synthesize: Any) -> None:
    made = synthesize(Magpie(rows=1, system="You like maths."), [], both("1+1?"), context())
    assert [m["role"] for m in made.asked[0].messages] == ["system"]
    assert [m["role"] for m in made.asked[1].messages] == ["user"]
    assert [m["role"] for m in made.rows[0].messages] == ["user", "assistant"]


def test_sanitising_keeps_the_raw_text(synthesize: Any) -> None:
    made = synthesize(Magpie(rows=1, sanitise=True), [], both("Question 1: why?\n\nAnswer: so"), context())
    assert made.rows[0].messages[0]["content"] == "why?"
    assert made.rows[0].fields["made"][0]["raw_instruction"] == "Question 1: why?\n\nAnswer: so"
    assert synthesize(Magpie(rows=1, sanitise=True), [], both("Answer: so"), context()).reasons == ["empty instruction"]


# --- feedback -------------------------------------------------------------------------------------------------------
def test_feedback_steers_by_a_system_turn_and_tags_the_row(synthesize: Any) -> None:
    prompts = {"steer": "you help with {category} ."}
    made = synthesize(Magpie(rows=100, focus="feedback"), [], both("why?"), context(feedback=WEAK, prompts=prompts))
    systems = Counter(a.messages[0]["content"] for a in made.asked if a.speaker == "user")
    tags = Counter(r.tags["category"] for r in made.rows)
    assert systems == {f"you help with {name} .": n for name, n in tags.items()}
    assert tags["math"] > 5 * tags["coding"] > 0, "the weak category gets most attempts, the strong one some"
    assert all(m["role"] != "system" for r in made.rows for m in r.messages)


def test_without_focus_feedback_changes_nothing(synthesize: Any) -> None:
    plain = synthesize(Magpie(rows=3), [], both("why?"), context())
    assert synthesize(Magpie(rows=3), [], both("why?"), context(feedback=WEAK)).rows == plain.rows
    assert not Magpie().uses_feedback()
    assert Magpie(focus="feedback").uses_feedback()


def test_the_first_iteration_has_no_feedback_and_is_not_steered(synthesize: Any) -> None:
    made = synthesize(Magpie(rows=2, focus="feedback"), [], both("why?"), context())
    assert [r.tags for r in made.rows] == [{}, {}]


def test_a_pack_without_steer_is_a_clear_error(synthesize: Any) -> None:
    with pytest.raises(UserError, match="'steer'"):
        synthesize(Magpie(rows=1, focus="feedback"), [], both("why?"), context(feedback=WEAK))


def test_weights_follow_weakness_whatever_the_unit() -> None:
    share = (
        Weakness(category="a", score=0.2, n=50),
        Weakness(category="b", score=0.5, n=50),
        Weakness(category="c", score=0.8, n=50),
    )
    points = tuple(Weakness(category=w.category, score=10 * w.score, n=w.n) for w in share)
    got = weights(share)
    assert got["a"] > got["b"] > got["c"] > 0
    assert sum(got.values()) == pytest.approx(1)
    assert weights(points) == pytest.approx(got)
    assert set(weights([Weakness(category=c, score=0.5, n=9) for c in "ab"]).values()) == {0.5}


def test_few_items_steer_less_than_many() -> None:
    sure = Weakness(category="sure", score=0.2, n=200)
    unlucky = Weakness(category="unlucky", score=0.2, n=2)
    got = weights((sure, unlucky, Weakness(category="rest", score=0.8, n=400)))
    assert got["unlucky"] < got["sure"]


@pytest.mark.parametrize("count", [50, 333, 1000])
def test_any_run_of_attempts_has_about_the_right_shares(count: int) -> None:
    shares = {"a": 0.6, "b": 0.3, "c": 0.1}
    got = Counter(scheduled(shares, index) for index in range(count))
    assert all(abs(got[name] - share * count) <= 3 for name, share in shares.items())


# --- clean-up -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "clean", "rules"),
    [
        ("What is 2+2?", "What is 2+2?", ()),
        ("**Task:** Sum two numbers.", "Sum two numbers.", ("label",)),
        ("1. Name a bird.", "Name a bird.", ("label",)),
        ("Question 3 - Name a bird.", "Name a bird.", ("label",)),
        ("Name a bird.\nAnswer: wren", "Name a bird.", ("answer",)),
        ("Name a bird.\n**Solution**: wren", "Name a bird.", ("answer",)),
        ("Name a bird.\nThe answer is: wren", "Name a bird.", ("answer",)),
        ("Sum 1 and 2.\n## Step 1: read", "Sum 1 and 2.", ("answer",)),
        ('"Name a bird."', "Name a bird.", ("quotes",)),
        ("**Name a bird.**", "Name a bird.", ("bold",)),
        ("<b>Name a bird.</b>", "Name a bird.", ("bold",)),
        ("**Name** a **bird**", "**Name** a **bird**", ()),
        ("**bird**: what is it?", "**bird**: what is it?", ()),
        ('"Yes" or "no"', '"Yes" or "no"', ()),
        ("Is it so?\nprint(1)", "Is it so?\nprint(1)", ()),
        ("The answer to life, what is it?", "The answer to life, what is it?", ()),
        ("Question everything. Do you?", "Question everything. Do you?", ()),
        ("3.5 is a number?", "3.5 is a number?", ()),
    ],
)
def test_sanitise(text: str, clean: str, rules: tuple[str, ...]) -> None:
    assert sanitise(text) == (clean, rules)


@pytest.mark.parametrize("options", [{"temperature": 0}, {"rows": 0}, {"stop": ("",)}, {"focus": "everything"}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Magpie(**options)


# --- how a turn was made --------------------------------------------------------------------------------------------
def test_every_row_says_how_it_was_sampled(synthesize: Any) -> None:
    """The released records have no finish reason, no seed per row and no template."""
    row = synthesize(Magpie(rows=1, temperature=1.1, top_p=0.9), [], both("why?"), context()).rows[0]
    (made,) = row.fields["made"]
    question, answer = made["instruction"], made["response"]
    assert (question["temperature"], question["top_p"], question["finish"], question["tokens"]) == (1.1, 0.9, "stop", 1)
    assert question["template"] == "hash"
    assert question["stop_id"] is None, "the scripted reply ended without one of the stop tokens"
    assert (answer["temperature"], answer["finish"], answer["prompt_tokens"]) == (0.0, "stop", 1)
    assert question["seed"] != answer["seed"]


def test_which_stop_token_fired_is_recorded(synthesize: Any) -> None:
    ended = Completion(request_id="r", draw=0, text="why?", token_ids=(5, 9), finish="stop", prompt_tokens=3)
    cut = Completion(request_id="r", draw=0, text="why?", token_ids=(5, 9), finish="length", prompt_tokens=3)
    made = [synthesize(Magpie(rows=1), [], both(said), context()) for said in (ended, cut)]
    first, second = ((m.rows or [d.example for d in m.dropped])[0].fields["made"][0]["instruction"] for m in made)
    assert (first["stop_id"], first["finish"]) == (9, "stop")
    assert (second["stop_id"], second["finish"]) == (None, "length")


def test_a_cut_answer_that_is_kept_is_marked(synthesize: Any) -> None:
    block = Magpie(rows=1, keep_cut=True)
    assert synthesize(block, [], both("why?", ("because", "length")), context()).rows[0].fields["answer_cut"] is True
    assert "answer_cut" not in synthesize(block, [], both("why?"), context()).rows[0].fields


def test_seeds_of_rows_differ_and_repeat(synthesize: Any) -> None:
    seeds = [[a.fixed_seed for a in synthesize(Magpie(rows=3), [], both("why?"), context()).asked] for _ in range(2)]
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 6
    other = synthesize(Magpie(rows=3), [], both("why?"), context(seed=1)).asked
    assert not set(seeds[0]) & {a.fixed_seed for a in other}


def test_the_prompt_is_the_bare_prefix_with_one_bos(synthesize: Any) -> None:
    asked = synthesize(Magpie(rows=1), [], both("why?"), context()).asked
    assert asked[0].ids == Chat().pre_query()
    assert asked[0].ids.count(2) == 1
    doubled = synthesize(Magpie(rows=1, double_bos=True), [], both("why?"), context()).asked[0].ids
    assert doubled == (2, *Chat().pre_query()), "on purpose only"


def test_a_literal_prefix_takes_the_place_of_the_template(synthesize: Any) -> None:
    asked = synthesize(Magpie(rows=1, prefix="<bos>user\n\n"), [], both("why?"), context()).asked
    assert asked[0].ids == Chat().literal("<bos>user\n\n")
    with pytest.raises(ValidationError, match="literal"):
        Magpie(prefix="x", system="y")


def test_a_prefix_that_cannot_be_told_is_refused_before_any_row(synthesize: Any) -> None:
    class Odd(Chat):
        def pre_query(self, system: str | None = None, before: Any = ()) -> tuple[int, ...]:
            raise UserError("the chat template of odd leaves the user's text out")

    chats: Any = {"teacher": Odd()}
    with pytest.raises(UserError, match="chat template of odd"):
        list(Magpie(rows=1).items([], Context(block="magpie", chats=chats)))
    assert Magpie().asks() == {"model": frozenset({"turns"})}


# --- decoding grids and steering ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("grid", "rows", "wanted"),
    [
        (
            "air",
            3000,
            {(t, p): 100 if t == 1.25 else 300 for t in (1.0, 1.1, 1.2, 1.25) for p in (1.0, 0.995, 0.99)},
        ),
        ("pro", 1000, {(1.0, 1.0): 300, (1.1, 0.995): 300, (1.2, 0.995): 300, (1.25, 0.99): 100}),
    ],
)
def test_the_published_grids_have_the_published_rows(grid: Any, rows: int, wanted: dict[Any, int]) -> None:
    items = Magpie(grid=grid, rows=rows).items([], context())
    got = Counter((i.data["temperature"], i.data["top_p"]) for i in items)
    assert set(got) == set(wanted)
    assert all(abs(got[cell] - n) <= 3 for cell, n in wanted.items())


def test_what_is_steered_does_not_hang_on_how_it_is_decoded() -> None:
    """Every category meets every cell of the grid as often as both shares say."""
    block = Magpie(grid=({"temperature": 0.5}, {"temperature": 2.0}), rows=2000, focus="feedback")
    even = Feedback(categories=tuple(Weakness(category=c, score=0.5, n=9) for c in "ab"))
    items = block.items([], context(feedback=even, prompts={"steer": "{category}"}))
    met = Counter((i.data["category"], i.data["temperature"]) for i in items)
    assert all(abs(met[category, t] - 500) < 50 for category in "ab" for t in (0.5, 2.0))


def test_a_grid_of_ones_own_reaches_the_asks(synthesize: Any) -> None:
    block = Magpie(grid=({"temperature": 0.5, "top_p": 0.9}, {"temperature": 2.0}), rows=40)
    asked = [a for a in synthesize(block, [], both("why?"), context()).asked if a.speaker == "user"]
    got = Counter((a.sampling.temperature, a.sampling.top_p) for a in asked)
    assert set(got) == {(0.5, 0.9), (2.0, 1.0)}
    assert max(got.values()) - min(got.values()) <= 2


def test_domains_and_languages_cover_each_other(synthesize: Any) -> None:
    prompts = {"steer": "about {category}", "steer_language": "in {language}"}
    block = Magpie(rows=12, domains=("maths", "law"), languages=("German", "French"))
    made = synthesize(block, [], both("why?"), context(prompts=prompts))
    assert Counter((r.tags["category"], r.tags["asked_language"]) for r in made.rows) == {
        (domain, language): 3 for domain in ("maths", "law") for language in ("German", "French")
    }
    assert made.asked[0].messages[0]["content"] == "about maths\nin German"
    assert all(m["role"] == "user" for a in made.asked if a.speaker == "assistant" for m in a.messages)


# --- families -------------------------------------------------------------------------------------------------------
def test_a_family_brings_its_released_settings_and_what_is_given_counts_instead() -> None:
    block = Magpie(family="llama-3.1-8b")
    assert (block.temperature, block.response_temperature, block.response_top_p) == (0.8, 0.6, 0.9)
    assert (block.sanitise, block.max_tokens, block.first_bans) == (True, 1024, ("#", "##", "###", "####"))
    own = Magpie(family="llama-3.1-8b", temperature=0.5, first_bans=())
    assert (own.temperature, own.first_bans, own.response_temperature) == (0.5, (), 0.6)
    assert Magpie(family="qwen2.5-7b", grid="air").temperature == 1.0
    math = Magpie(family="qwen2.5-math-72b")
    assert math.first(math.temperature) == pytest.approx(0.72), "logits divided by 1.2, then by the temperature"
    hotter = Magpie(family="qwen2.5-math-72b", temperature=1.0)
    assert hotter.first(hotter.temperature) == pytest.approx(1.2), "the divisor holds for any temperature"
    own = Magpie(family="qwen2.5-math-72b", first_temperature=0.9)
    assert (own.first(0.6), own.first_divisor) == (0.9, None)
    with pytest.raises(ValueError, match="`first_temperature` and `first_divisor` both say"):
        Magpie(first_temperature=0.9, first_divisor=1.2)
    assert Magpie(family="llama-3.1-8b", system="x").prefix is None
    assert Magpie(family="llama-3.1-8b").identity_options()["temperature"] == 0.8, "the values are in the stage's key"


def test_options_are_read_from_yaml_as_they_are() -> None:
    """Files are validated as strict JSON: lists there become tuples, with and without a family."""
    for family in ("", '"family": "llama-3.1-8b", '):
        text = f'{{{family}"stop": ["x"], "domains": ["law"], "grid": [{{"temperature": 0.5}}]}}'
        block = Magpie.model_validate_json(text, strict=True)
        assert (block.stop, block.domains, len(block.grid or ())) == (("x",), ("law",), 1)
        assert block.sanitise is bool(family)


@pytest.mark.parametrize(("text", "value"), [("false", False), ("true", True)])
def test_switches_can_be_turned_off_on_the_command_line(text: str, value: bool) -> None:
    """Any text turns the released scripts' switches on, `False` too."""
    block = config.load_block("synthesize", "magpie", [f"sanitise={text}", "family=gemma-2"], registry)
    assert isinstance(block, Magpie)
    assert block.sanitise is value
    with pytest.raises(ConfigError, match="true or false"):
        config.load_block("synthesize", "magpie", ["sanitise=perhaps"], registry)


def test_the_textual_stops_of_the_released_code_are_off_unless_asked_for() -> None:
    """They cut one-line and multi-line questions apart, and every question that mentions an assistant."""
    assert Magpie(family="qwen2").stops() == ()
    assert Magpie(family="qwen2", released_stops=True).stops() == ("\n", "assistant")
    assert Magpie(family="gemma-2", released_stops=True).stops() == ("assistant",)


@pytest.mark.parametrize(
    "options",
    [
        {"grid": "air", "temperature": 1.0},
        {"grid": ()},
        {"grid": "moon"},
        {"family": "gpt-9"},
        {"domains": ("a",), "focus": "feedback"},
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Magpie(**options)


# --- several turns --------------------------------------------------------------------------------------------------
def test_further_turns_follow_the_conversation(synthesize: Any) -> None:
    prompts = {"magpie_turns": "the user goes on"}

    def say(ask: Ask) -> str:
        return f"{ask.speaker[0]}{sum(m['role'] != 'system' for m in ask.messages)}"

    made = synthesize(Magpie(rows=1, turns=3, system="first"), [], say, context(prompts=prompts))
    assert [(m["role"], m["content"]) for m in made.rows[0].messages] == [
        ("user", "u0"),
        ("assistant", "a1"),
        ("user", "u2"),
        ("assistant", "a3"),
        ("user", "u4"),
        ("assistant", "a5"),
    ]
    systems = [[m["content"] for m in a.messages if m["role"] == "system"] for a in made.asked]
    assert systems == [["first"], [], ["the user goes on"], [], ["the user goes on"], []]
    assert made.asked[2].ids == Chat().pre_query("the user goes on", made.rows[0].messages[:2])
    assert len(made.rows[0].fields["made"]) == 3
    assert len({a.fixed_seed for a in made.asked}) == 6


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ((("and", "length"), "x"), "cut instruction in turn 2"),
        (("and?", ("x", "length")), "cut response in turn 2"),
        (("  ", "x"), "empty instruction in turn 2"),
    ],
)
def test_a_later_turn_that_is_no_use_drops_the_row_with_its_turn(synthesize: Any, second: Any, reason: str) -> None:
    def say(ask: Ask) -> Any:
        later = any(m["role"] == "assistant" for m in ask.messages)
        return (second if later else ("why?", "so"))[ask.speaker == "assistant"]

    assert synthesize(Magpie(rows=1, turns=2), [], say, context()).reasons == [reason]


def test_a_cut_answer_cannot_stand_inside_a_conversation(synthesize: Any) -> None:
    block = Magpie(rows=1, turns=2, keep_cut=True)
    assert synthesize(block, [], both("why?", ("so", "length")), context()).reasons == ["cut response"]
