"""`lab_knowledge`: chunks, versions, pairs, judges and their reasons; the released judge by its checksum."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.blocks.kinds import Ask, Context
from harness.blocks.prompts import fill, load_pack
from harness.errors import UserError
from harness.pocket import model_path
from harness.records.chat import ChatFormat
from harness.records.example import Example, Message
from harness.records.values import DataFile
from harness.synthesize._chunks import chunks
from harness.synthesize.chunk import Chunk
from harness.synthesize.lab_knowledge import LabKnowledge

LEAF = "knowledge/a/b"
TEXT = "iron has weight 26 and hardness 45 .\ngold has weight 79 and hardness 25 ."
CHAT = ChatFormat.from_folder(model_path("pocket/chat"))
CONTEXT: dict[str, Any] = {"prompts": load_pack("general").entries, "chats": {"student": CHAT}}


def knowledge(contexts: int = 2, text: str | None = TEXT) -> list[Example]:
    tags: dict[str, str | None] = {"leaf": LEAF, "leaf_kind": "knowledge", "category": "a"}
    rows = [
        Example(
            id=f"t/{c}.{p}",
            messages=(),
            fields={"context": f"passage {c}", "passage": c, "question": f"q{c}{p}", "answer": f"a{c}{p}"},
            tags={**tags, "part": "seed"},
        )
        for c in range(contexts)
        for p in range(4)
    ]
    fields = {"domain": "metals", "document_outline": "about metals", "document": "doc.md"}
    if text is not None:
        said = (Message(role="user", content=text),)
        rows.append(Example(id="t/doc", messages=said, fields=fields, tags={**tags, "part": "document"}))
    return rows


STARTS = {
    "You turn textbook passages": "pairs",
    "You write questions about": "questions",
    "Answer the question from": "answer",
    "You check whether answers are supported": "faithfulness",
    "You check whether answers fit": "relevancy",
    "You check questions": "question",
    "You rate answers": "rating",
    "Copy the following": "spelling",
    "Retell": "detailed_summary",
    "Pick": "extractive_summary",
    "Break": "atomic_facts",
}
GOOD = {"faithfulness": "<verdict>YES</verdict>", "relevancy": "<score>2</score>", "question": "<score>1</score>"}
WRITTEN = {
    "spelling": "<corrected>corrected</corrected>",
    "detailed_summary": "<summary>retold</summary>",
    "extractive_summary": "<summary>picked</summary>",
    "atomic_facts": "<facts>facts</facts>",
}


def stage_of(ask: Ask) -> str:
    text = ask.messages[-1]["content"]
    return next(stage for start, stage in STARTS.items() if text.startswith(start))


def pair(number: int) -> str:
    return f"<question>new {number} ?</question>\n<answer>answer {number} .</answer>"


def teacher(pairs: int = 1, **verdicts: dict[int, str]) -> Callable[[Ask], Any]:
    """Writes the same pairs for every prompt; a verdict may differ for the pair of a number."""

    def say(ask: Ask) -> Any:
        stage, text = stage_of(ask), ask.messages[-1]["content"]
        if stage == "pairs":
            return "\n".join(pair(number) for number in range(pairs))
        if stage in GOOD:
            shown = int(re.findall(r"new (\d+) \?", text)[-1])
            return verdicts.get(stage, {}).get(shown, GOOD[stage])
        return WRITTEN[stage]

    return say


def of_each_version(**changed: Any) -> Callable[[Ask], Any]:
    """A question of its own for every version of a chunk."""
    versions = (TEXT, "retold", "picked", "facts")

    def say(ask: Ask) -> Any:
        stage, text = stage_of(ask), ask.messages[-1]["content"]
        if stage == "pairs":
            return pair(next(at for at, version in enumerate(versions) if version in text))
        return changed[stage] if isinstance(changed.get(stage), str) else judged(ask)

    judged = teacher(1, **{stage: said for stage, said in changed.items() if isinstance(said, dict)})
    return say


@pytest.fixture
def run(synthesize: Callable[..., Any]) -> Callable[..., Any]:
    def go(rows: Sequence[Example], say: Callable[[Ask], Any], context: Context | None = None, **options: Any) -> Any:
        return synthesize(LabKnowledge(**options), rows, say, context or Context(block="lab_knowledge-1", **CONTEXT))

    return go


def test_every_chunk_meets_every_seed_context_with_three_pairs(run: Any) -> None:
    made = run(knowledge(contexts=5), teacher(), chunk_tokens=14)
    prompts = [a.messages[-1]["content"] for a in made.asked if stage_of(a) == "pairs"]
    assert len(prompts) == 2 * 5
    assert [("q00" in p, "q02" in p, "q03" in p) for p in prompts[:1]] == [(True, True, False)]
    assert "iron" in prompts[0]
    assert "gold" not in prompts[0]
    limited = run(knowledge(contexts=5), teacher(), chunk_tokens=14, contexts=1)
    assert sum(stage_of(a) == "pairs" for a in limited.asked) == 2


def test_duplicates_of_a_chunk_are_dropped_before_any_judge(run: Any) -> None:
    made = run(knowledge(contexts=5), teacher(pairs=2))
    assert made.reasons == ["question: duplicate"] * 8
    assert sum(stage_of(a) == "faithfulness" for a in made.asked) == 2
    assert [row.messages[0]["content"] for row in made.rows] == ["new 0 ?", "new 1 ?"]
    assert made.rows[0].fields["document"] == TEXT
    assert made.rows[0].scores == {"faithfulness": 1.0, "relevancy": 2.0, "question": 1.0}


def test_the_truth_tables_of_the_three_judges(run: Any) -> None:
    said = {
        "faithfulness": {
            0: "<verdict>NO</verdict>",
            1: "<verdict>Yes.</verdict>",
            2: "perhaps",
            3: GOOD["faithfulness"],
        },
        "relevancy": {1: "<score>1</score>", 3: "<score>3</score>"},
        "question": {4: "<score>0</score>"},
    }
    context = Context(block="lab_knowledge-1", **CONTEXT)
    made = run(knowledge(contexts=1), teacher(pairs=6, **said), context)
    by_question = {d.example.fields["question"]: d.reason for d in made.dropped}
    assert by_question == {
        "new 0 ?": "faithfulness judge: rejected",
        "new 1 ?": "relevancy judge: 1 of 2",  # `Yes.` is a YES: the released filter compares to the letter
        "new 2 ?": "faithfulness judge: unreadable",
        "new 3 ?": "relevancy judge: unreadable",
        "new 4 ?": "question judge: rejected",
    }
    assert [row.fields["question"] for row in made.rows] == ["new 5 ?"]
    counts = context.tally.counts
    assert [counts[name] for name in sorted(counts) if name[0].isdigit()] == [6, 6, 4, 1, 2, 1]
    assert (counts["chunks"], counts["chunks without rows"]) == (1, 0)


def test_rewrites_are_written_once_per_chunk(run: Any) -> None:
    kinds = ("detailed_summary", "extractive_summary", "atomic_facts")
    made = run(knowledge(contexts=5), of_each_version(), rewrites=kinds, auxiliary=True)
    stages = [stage_of(a) for a in made.asked]
    assert [stages.count(kind) for kind in kinds] == [1, 1, 1]
    assert stages.count("pairs") == 4 * 5
    extra = [row for row in made.rows if row.tags["part"] == "auxiliary"]
    assert [row.fields["dataset_type"] for row in extra] == list(kinds)
    assert [row.answer for row in extra] == ["retold", "picked", "facts"]
    assert all(row.messages[0]["content"].startswith(TEXT) for row in extra)
    assert len({row.id for row in made.rows}) == len(made.rows)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"faithfulness": {2: "<verdict>NO</verdict>"}}, "auxiliary: no pair of the rewrite was kept"),
        ({"extractive_summary": "<summary>retold</summary>"}, "auxiliary: duplicate"),
    ],
)
def test_a_rewrite_asks_for_itself_only_where_a_pair_of_it_was_kept(run: Any, changed: Any, reason: str) -> None:
    """The released data mixing takes the documents of the pairs that the judges left, each text once."""
    kinds = ("detailed_summary", "extractive_summary", "atomic_facts")
    made = run(knowledge(contexts=1), of_each_version(**changed), rewrites=kinds, auxiliary=True)
    extra = [row.fields["dataset_type"] for row in made.rows if row.tags["part"] == "auxiliary"]
    assert extra == ["detailed_summary", "atomic_facts"]
    (lost,) = [d for d in made.dropped if d.example.tags["part"] == "auxiliary"]
    assert (lost.reason, lost.example.fields["dataset_type"]) == (reason, "extractive_summary")


def test_a_rewrite_that_is_cut_is_counted_and_the_chunk_goes_on(run: Any) -> None:
    def say(ask: Ask) -> Any:
        return ("<corrected>cu", "length") if stage_of(ask) == "spelling" else teacher()(ask)

    made = run(knowledge(contexts=1), say, rewrites=("spelling",))
    assert made.reasons == ["rewrite: cut"]
    assert len(made.rows) == 1


def test_answers_apart_are_asked_with_the_document(run: Any) -> None:
    def say(ask: Ask) -> Any:
        stage = stage_of(ask)
        if stage == "questions":
            return "<question>new 7 ?</question>"
        return "<answer>an answer</answer>" if stage == "answer" else teacher()(ask)

    made = run(knowledge(contexts=1), say, answers="apart")
    assert [stage_of(a) for a in made.asked] == ["questions", "answer", "faithfulness", "relevancy", "question"]
    assert made.rows[0].answer == "an answer"


def test_a_series_without_pairs_keeps_its_text(run: Any) -> None:
    made = run(knowledge(contexts=2), lambda ask: "<nothing/>")
    assert made.reasons == ["question: nothing found"] * 2
    assert made.dropped[0].example.fields["reply"] == "<nothing/>"


def test_leaves_that_lack_a_part_say_which(run: Any) -> None:
    no_documents = knowledge(text=None)
    assert run(no_documents, teacher()).reasons == ["leaf: no documents"]
    assert run(knowledge()[-1:], teacher()).reasons == ["leaf: no seed examples"]
    with pytest.raises(UserError, match="found no knowledge leaf"):
        run([], teacher())


# --- released prompts -------------------------------------------------------------------------------------------------
RELEASED = """system: You judge.
introduction: Is this supported?
principles: null
examples: ""
generation: |
  [Start of Context]
  {{document}}
  [End of Context]
  [Start of Response]
  {{response}}
  [End of Response]
start_tags: ["[Start of Explanation]", "[Start of Answer]"]
end_tags: ["[End of Explanation]", "[End of Answer]"]
"""


def released(tmp_path: Path, text: str = RELEASED, sha: str | None = None) -> DataFile:
    path = tmp_path / "prompt.yaml"
    path.write_text(text)
    return DataFile(name="p", path=str(path), sha256=sha or hashlib.sha256(text.encode()).hexdigest())


def test_a_released_judge_is_rendered_and_read_as_its_own_code_does(run: Any, tmp_path: Path) -> None:
    def say(ask: Ask) -> Any:
        text = ask.messages[-1]["content"]
        if not text.startswith("You judge."):
            return teacher()(ask)
        assert len(ask.messages) == 1, "one user turn, as released"
        assert f"[Start of Context]\n{TEXT}\n[End of Context]" in text
        return "[Start of Explanation]\nso\n[End of Explanation]\n[Start of Answer]\nyes\n[End of Answer]"

    made = run(knowledge(contexts=1), say, released={"faithfulness": released(tmp_path)}, checks=("faithfulness",))
    assert [row.scores for row in made.rows] == [{"faithfulness": 1.0}]


SERIES = "introduction: Ask.\ngeneration: 'now: {{document}}'\nstart_tags: []\nend_tags: []\n"


@pytest.mark.parametrize(("finish", "kept"), [("stop", 2), ("length", 1)])
def test_a_released_series_is_read_and_its_cut_pair_left_out(run: Any, tmp_path: Path, finish: str, kept: int) -> None:
    def say(ask: Ask) -> Any:
        if not ask.messages[-1]["content"].startswith("Ask."):
            return teacher()(ask)
        return "[QUESTION]\nnew 1 ?\n[ANSWER]\none\n[END]\n[Question] new 2 ? [Answer] two, or per", finish

    made = run(knowledge(contexts=1), say, released={"pairs": released(tmp_path, SERIES)})
    assert [(row.messages[0]["content"], row.answer) for row in made.rows][:1] == [("new 1 ?", "one")]
    assert len(made.rows) == kept
    cut = [(d.reason, d.example.fields["reply"]) for d in made.dropped]
    assert cut == ([] if finish == "stop" else [("question: cut", "new 2 ? two, or per")]), "counted, with its text"


def test_a_cut_or_empty_pair_beside_whole_ones_is_counted(run: Any) -> None:
    def say(ask: Ask) -> Any:
        if stage_of(ask) != "pairs":
            return teacher()(ask)
        return f"{pair(1)}<question> </question><answer>so</answer>{pair(2)}<question>new 3 ?</question><ans", "length"

    made = run(knowledge(contexts=1), say)
    assert [row.fields["question"] for row in made.rows] == ["new 1 ?", "new 2 ?"]
    assert made.reasons == ["question: nothing found", "question: cut"]
    assert made.dropped[1].example.fields["reply"] == "<question>new 3 ?</question><ans"


def test_every_prompt_can_be_filled_in() -> None:
    names = "task_description seed_context seed_question seed_response num_samples question response context document"
    names += " domain document_outline icl_document icl_query_1 icl_query_2 icl_query_3"
    names += " icl_response_1 icl_response_2 icl_response_3"
    values = {name: f"<{name}>" for name in names.split()}
    for pack in ("general", "pocket"):
        entries = load_pack(pack).entries
        found = [name for name in entries if name.startswith("lab_") and "." not in name]
        assert found
        for name in found:
            assert fill(entries, name, "test", **values)


def test_another_file_than_its_checksum_names_is_refused(run: Any, tmp_path: Path) -> None:
    file = released(tmp_path, sha="0" * 64)
    with pytest.raises(UserError, match="it is another version of the data"):
        run(knowledge(contexts=1), teacher(), released={"faithfulness": file})


def test_released_prompts_enter_the_key_by_content(tmp_path: Path) -> None:
    one = LabKnowledge(released={"faithfulness": released(tmp_path)}).identity_options()
    other = LabKnowledge(released={"faithfulness": released(tmp_path, RELEASED + "\n")}).identity_options()
    assert one["released"] != other["released"]
    with pytest.raises(ValidationError, match="there is no stage 'faith'"):
        LabKnowledge(released={"faith": released(tmp_path)})


def test_our_own_judges_show_what_they_ask_for() -> None:
    """Every example of a judge's prompt has a question, an answer where it judges one, and a readable verdict."""
    entries = load_pack("general").entries
    judges = [n for n in entries if n.startswith("lab_") and n.endswith(("_judge", "_faithfulness", "_relevancy"))]
    assert len(judges) == 7
    for name in judges:
        text, tag = entries[name], "verdict" if name == "lab_faithfulness" else "score"
        example = text.partition("For example")[2]
        assert example.count("<question>") == example.count("</question>") >= 2, name
        assert example.count("<answer>") == example.count("</answer>"), name
        assert re.search(rf"<{tag}>(YES|NO|\d)</{tag}>", example), name
    faithful = entries["lab_faithfulness"]
    assert re.search(r"nothing on what the crossing is like\. <verdict>NO</verdict>", faithful)


# --- chunks -----------------------------------------------------------------------------------------------------------
def test_chunks_fit_and_lose_nothing() -> None:
    text = "\n".join(f"iron has weight {n % 90 + 10} and hardness 45 ." for n in range(60))
    found = chunks(text, CHAT, 40)
    assert all(len(CHAT.encode(piece)) <= 40 for piece in found)
    assert "".join(found).replace("\n", "") == text.replace("\n", "")
    assert chunks("  \n", CHAT, 40) == []
    assert chunks(TEXT, CHAT, 500) == [TEXT]


def test_the_chunk_block_cuts_documents_and_passes_pairs(synthesize: Callable[..., Any]) -> None:
    rows = [
        *knowledge()[-1:],
        Example(id="empty", messages=(Message(role="user", content=" "),)),
        Example(id="file", messages=(), fields={"text": "iron", "path": "a.md"}),
        Example(id="pair", messages=(Message(role="user", content="q"), Message(role="assistant", content="a"))),
    ]
    made = synthesize(Chunk(tokens=14), rows, context=Context(block="chunk-1", **CONTEXT))
    assert [(row.id, row.prompt[0]["content"][:4]) for row in made.rows] == [
        ("t/doc/chunk-1/0", "iron"), ("t/doc/chunk-1/1", "gold"), ("file/chunk-1/0", "iron"), ("pair", "q")
    ]  # fmt: skip
    assert made.reasons == ["empty document"]
    with pytest.raises(ValidationError, match="overlap should be smaller"):
        Chunk(tokens=10, overlap=10)
