"""`lab_knowledge`: questions and answers from the documents of a taxonomy's knowledge leaves (LAB, 2403.01081)."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from math import ceil
from typing import Any, ClassVar, Literal

from harness.blocks.base import ModelRole, identity
from harness.blocks.kinds import Completion, Context, Drop, Item, Made, Reply, Request, Sampling, Tolerant
from harness.engines.base import Capability
from harness.errors import UserError
from harness.records.example import Dropped, Example
from harness.records.values import Count
from harness.synthesize._chunks import chunks
from harness.synthesize._drafts import Draft, alive, at, unique
from harness.synthesize._lab import DIFFERENT, WRITTEN, Bench, LabBlock, Steps
from harness.synthesize._versions import Rewrite, Version, auxiliary, versions

Check = Literal["faithfulness", "relevancy", "question", "rating"]
PAIRS = 3
"""Seed pairs per context in a prompt; further ones are not used (instructlab/sdg, docs/FAQ.md)."""
CHARACTERS = 4
"""Of a token, where a forecast cannot ask a tokenizer."""
_SCALES: Mapping[str, tuple[float, float, float]] = {
    "faithfulness": (0, 1, 1), "relevancy": (0, 2, 2), "question": (0, 1, 1)
}  # fmt: skip
"""Check to the lowest, the highest and the lowest accepted verdict (released full pipeline)."""
_PROMPTS = {"question": "knowledge_question_judge", "rating": "knowledge_rating"}


class LabKnowledge(LabBlock):
    """Question and answer pairs from chunks of documents, each checked against its chunk by a judge.

    Reads the rows of a taxonomy (`from: taxonomy`): documents are cut into chunks, and each chunk meets each of its
    leaf's seed contexts, whose three pairs show the model what is wanted. `rewrites` adds other versions of a chunk,
    written once per chunk (the released code writes them anew for every seed context). Duplicate questions of a chunk
    are dropped before any judge is asked; a `dedup` step after this one does the rest. Checks: `faithfulness` (the
    chunk supports the answer), `relevancy` (2 of 2 points), `question` (understandable by itself), `rating` (at least
    `min_rating`). Reasons: `rewrite: ...`, `question: ...`, `answer: ...`, `<check> judge: ...`, and `auxiliary: ...`.

    A row is the question with its answer. `document` (the version that it was made from), `dataset_type` and `chunk`
    stand in its fields, from which the block `raft` builds rows with documents in the prompt. The released judge of
    faithfulness has an example that answers YES where its explanation says no; ours is the default, the original comes
    with `released: {faithfulness: lab-sdg/faithfulness}`. Ours also shows the question, which the original does not.
    """

    name: ClassVar[str] = "lab_knowledge"
    version: ClassVar[int] = 2
    stages: ClassVar[tuple[str, ...]] = (
        "spelling", "detailed_summary", "extractive_summary", "atomic_facts", "pairs", "knowledge_questions",
        "knowledge_answer", "faithfulness", "relevancy", "knowledge_question_judge", "knowledge_rating",
    )  # fmt: skip

    tokenizer: ModelRole = identity("student", description="The model whose tokenizer counts a chunk's tokens.")
    chunk_tokens: Count = identity(
        500, description="Longest chunk.", unit="tokens", source="released: fixed, in the teacher's tokens"
    )
    chunk_overlap: int = identity(0, ge=0, description="Tokens that neighbouring chunks may share.", unit="tokens")
    contexts: Count | None = identity(
        None, description="Seed contexts per chunk; by default all, as released.", source="released pipelines"
    )
    rewrites: tuple[Rewrite, ...] = identity(
        (),
        description="Other versions of each chunk: spelling (released `full`), or detailed_summary, "
        "extractive_summary and atomic_facts (released `llama`).",
        source="not in 2403.01081",
    )
    auxiliary: bool = identity(
        False,
        description="Also a row that asks for the rewrite of the chunk, for each rewrite of which a pair was kept.",
        source="released data mixing",
    )
    answers: Literal["together", "apart"] = identity(
        "together", description="`apart`: questions first, then each answer by a request of its own."
    )
    questions: Count = identity(3, description="Questions asked for per prompt, with `answers: apart`.")
    checks: tuple[Check, ...] = identity(
        ("faithfulness", "relevancy", "question"),
        description="Judges, in this order; the paper has the first only.",
        source="released full pipeline",
    )

    def asks(self) -> dict[str, frozenset[Capability]]:
        """A tokenizer for the chunks, which is as good as token ids."""
        return {"tokenizer": frozenset({"continue"})}

    def expects_by_leaf(self, rows: Iterable[Example]) -> dict[str, int]:
        """Pairs per chunk and seed context, for the chunk and its rewrites; chunks by four characters to a token."""
        seeds, documents = _by_leaf(rows)
        each = self.draws * (1 + len(self.rewrites)) * (PAIRS if self.answers == "together" else self.questions)
        found = {}
        for leaf, texts in documents.items():
            cut = sum(ceil(len(row.messages[0]["content"]) / (CHARACTERS * self.chunk_tokens)) for row in texts)
            aside = len(self.rewrites) if self.auxiliary else 0
            found[leaf] = cut * (each * len(_passages(seeds[leaf])[: self.contexts]) + aside) if leaf in seeds else 0
        return found

    def items(self, rows: Iterable[Example], context: Context) -> Iterator[Item]:
        """One item per chunk; a leaf without documents or seeds is one item that is dropped with the reason.

        Raises:
            UserError: no row belongs to a knowledge leaf.
        """
        seeds, documents = _by_leaf(rows)
        if not seeds and not documents:
            raise UserError(
                "lab_knowledge found no knowledge leaf among its rows: let it read a data source of kind taxonomy, "
                "such as `from: taxonomy`"
            )
        for leaf in sorted({*seeds, *documents}):
            missing = "no documents" if leaf not in documents else "no seed examples" if leaf not in seeds else None
            if missing:
                yield Item(id=leaf, data={"missing": f"leaf: {missing}"})
                continue
            yield from self._chunks(leaf, documents[leaf], _passages(seeds[leaf])[: self.contexts], context)

    def _chunks(
        self, leaf: str, documents: Sequence[Example], passages: Sequence[Any], context: Context
    ) -> Iterator[Item]:
        chat = context.chats[self.tokenizer]
        for document in documents:
            about = {"leaf": leaf, "category": document.tags["category"], "passages": passages, "parent": document.id}
            cut = chunks(document.messages[0]["content"], chat, self.chunk_tokens, self.chunk_overlap)
            for number, text in enumerate(cut):
                yield Item(id=f"{document.id}/{number}", data={**about, **document.fields, "text": text})

    def make(self, item: Item, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Made]:
        """The pipeline of one chunk with all seed contexts."""
        if "missing" in item.data:
            return Drop(str(item.data["missing"]))
        bench, drafts = Bench(self, context, item), list[Draft]()
        made = yield from versions(bench, self.rewrites, self.max_tokens, drafts)
        yield from self._questions(bench, made, drafts)
        bench.left(WRITTEN, drafts)
        unique(drafts, (pair["question"] for passage in item.data["passages"] for pair in passage["pairs"]))
        bench.left(DIFFERENT, drafts)
        if self.answers == "apart":
            yield from bench.answered(drafts, "knowledge_answer")
            bench.left("3 pairs answered", drafts)
        for check in self.checks:
            low, high, keep = _SCALES.get(check, (1, self.best, self.min_rating))
            yield from bench.judged(drafts, _PROMPTS.get(check, check), check, low, high, keep)
            bench.left(f"4 kept by {check}", drafts)
        bench.left("5 pairs kept", drafts)
        context.count("chunks")
        context.count("chunks without rows", not alive(drafts))
        rows = [self._row(bench, draft) for draft in drafts]
        return [*rows, *(auxiliary(bench, made, drafts) if self.auxiliary else ())]

    def _questions(self, bench: Bench, made: Sequence[Version], drafts: list[Draft]) -> Steps:
        together = self.answers == "together"
        stage = "pairs" if together else "knowledge_questions"
        passages = bench.item.data["passages"]
        starts = [_values(bench.item, version, passage) for version in made for passage in passages]
        sampling = Sampling(max_tokens=self.max_tokens, temperature=self.temperature, n=self.draws)
        replies = yield Tolerant(
            bench.ask(stage, {**values, "num_samples": str(self.questions)}, sampling, at(stage, self.stages, number))
            for number, values in enumerate(starts)
        )
        for values, reply in zip(starts, replies, strict=True):
            if isinstance(reply, Exception):
                drafts.append(Draft(len(drafts), values))
                drafts[-1].drop("question", f"failed ({type(reply).__name__})", str(reply))
                continue
            for completion in reply:
                _read(bench, stage, completion, values, drafts)

    def _row(self, bench: Bench, draft: Draft) -> Example | Dropped:
        data = bench.item.data
        names = ("domain", "document_outline", "document", "dataset_type", "question")
        fields = {name: draft.values[name] for name in names if name in draft.values}
        draft.parents = (str(data["parent"]),)
        return bench.row(draft, "knowledge", {**fields, "chunk": bench.item.id}, draft.question)


def _read(bench: Bench, stage: str, completion: Completion, values: dict[str, str], drafts: list[Draft]) -> None:
    """Drafts of what a completion holds; what cannot be used of it is dropped at once."""
    whole, lost = bench.parts(stage, completion)
    for parts in whole:
        answer = {"response": parts[1]} if len(parts) > 1 else {}
        drafts.append(Draft(len(drafts), {**values, "question": parts[0], **answer}))
    for text, why in lost:
        drafts.append(Draft(len(drafts), dict(values)))
        drafts[-1].drop("question", why, text)


def _by_leaf(rows: Iterable[Example]) -> tuple[dict[str, list[Example]], dict[str, list[Example]]]:
    """Seeds and documents of the knowledge leaves."""
    seeds: dict[str, list[Example]] = {}
    documents: dict[str, list[Example]] = {}
    for row in rows:
        if row.tags.get("leaf_kind") == "knowledge":
            part = documents if row.tags.get("part") == "document" else seeds
            part.setdefault(str(row.tags["leaf"]), []).append(row)
    return seeds, documents


def _passages(seeds: Sequence[Example]) -> list[dict[str, Any]]:
    """Seed contexts with their first three pairs, in the leaf's order."""
    found: dict[Any, dict[str, Any]] = {}
    for seed in seeds:
        passage = found.setdefault(seed.fields.get("passage"), {"context": seed.fields.get("context", ""), "pairs": []})
        if len(passage["pairs"]) < PAIRS:
            passage["pairs"].append({"question": seed.fields["question"], "answer": seed.fields["answer"]})
    return list(found.values())


def _values(item: Item, version: Version, passage: Mapping[str, Any]) -> dict[str, str]:
    values = {
        "leaf": str(item.data["leaf"]),
        "domain": str(item.data["domain"]),
        "document_outline": str(item.data["document_outline"]),
        "document": version.text,
        "dataset_type": version.kind,
        "icl_document": str(passage["context"]),
    }
    for number, pair in enumerate(passage["pairs"], start=1):
        values |= {f"icl_query_{number}": pair["question"], f"icl_response_{number}": pair["answer"]}
    return values
