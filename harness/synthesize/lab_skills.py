"""`lab_skills`: new questions and answers for the skill leaves of a taxonomy, one leaf at a time (LAB, 2403.01081)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal

from harness.blocks.base import identity
from harness.blocks.kinds import Completion, Context, Item, Made, Reply, Request, Sampling, Tolerant
from harness.errors import UserError
from harness.records.example import Example
from harness.records.values import Count
from harness.synthesize._drafts import DUPLICATE, Draft, alive, at, plain, unique
from harness.synthesize._lab import DIFFERENT, WRITTEN, Bench, LabBlock, Steps


class LabSkills(LabBlock):
    """Free-form and grounded skills: questions, a judge of questions, answers, a judge of pairs.

    Reads the rows of a taxonomy (`from: taxonomy`). For every seed example of a leaf the model writes questions like it
    and unlike each other; for grounded leaves it first writes contexts like the seed's. Duplicates within a leaf are
    dropped before anything else is paid for. A judge drops questions that do not fit the task (0 of 1), the model
    answers the others like the seed, and a judge rates the pairs. Reasons: `context: ...`, `question: ...`,
    `question judge: ...`, `answer: ...`, `rating judge: ...`. Requests per seed, at most: free-form 1 + 3 `questions`,
    grounded `contexts` x (2 + 3 `grounded_questions`), as the released pipelines (91 and 110 with their numbers).

    Prompts: entries `lab_*` of the model's pack. `best` and `min_rating` belong to the pack's rating prompt.
    """

    name: ClassVar[str] = "lab_skills"
    version: ClassVar[int] = 2
    stages: ClassVar[tuple[str, ...]] = (
        "contexts", "questions", "question_judge", "answer", "pair_judge",
        "grounded_questions", "grounded_question_judge", "grounded_answer", "grounded_pair_judge",
    )  # fmt: skip

    kinds: tuple[Literal["freeform", "grounded", "foundational"], ...] = identity(
        ("freeform", "grounded"),
        description="Leaves that are worked on; the paper takes foundational skills from data.",
    )
    questions: Count = identity(30, description="Questions asked for per prompt.", source="released full pipeline")
    contexts: int = identity(
        10, ge=0, description="New contexts per seed of a grounded leaf; 0: the seeds' own.", source="released pipeline"
    )
    context_temperature: float = identity(0.7, ge=0, description="Of contexts.", source="released full pipeline")
    context_max_tokens: Count = identity(
        2048, description="Cap on a context.", unit="tokens", source="released full pipeline"
    )
    grounded_questions: Count = identity(
        3, description="Questions asked for per context.", source="released full pipeline"
    )
    creative: tuple[str, ...] = identity(
        ("*writing*", "*roleplay*"),
        description="Patterns of leaves that the creative persona answers; the precise one answers the others.",
        source="2403.01081 §3.2.1",
    )
    judge_questions: bool = identity(True, description="Drop questions that the judge rates 0 of 1.")
    judge_pairs: bool = identity(True, description="Drop pairs that the judge rates below `min_rating`.")

    def expects_by_leaf(self, rows: Iterable[Example]) -> dict[str, int]:
        """Per seed `questions`, or for grounded leaves `grounded_questions` for each of its contexts; times `draws`."""
        each = {"grounded": max(1, self.contexts) * self.grounded_questions}
        found: Counter[str] = Counter()
        for row in rows:
            kind = row.tags.get("leaf_kind")
            if row.tags.get("part") == "seed" and kind in self.kinds:
                found[str(row.tags["leaf"])] += self.draws * each.get(str(kind), self.questions)
        return dict(found)

    def items(self, rows: Iterable[Example], context: Context) -> Iterator[Item]:
        """One item per leaf with its seeds.

        Raises:
            UserError: no row is a seed of such a leaf.
        """
        leaves: dict[str, list[Example]] = {}
        count = 0
        for row in rows:
            count += 1
            if row.tags.get("part") == "seed" and row.tags.get("leaf_kind") in self.kinds:
                leaves.setdefault(str(row.tags["leaf"]), []).append(row)
        if not leaves:
            raise UserError(
                f"lab_skills found no seed of a {' or '.join(self.kinds)} leaf among {count:,} rows: let it read a "
                "data source of kind taxonomy, such as `from: taxonomy`"
            )
        for leaf, seeds in leaves.items():
            first = seeds[0]
            about = {"leaf": leaf, "kind": first.tags["leaf_kind"], "category": first.tags["category"]}
            yield Item(id=leaf, data={**about, "seeds": [{"id": s.id, **s.fields} for s in seeds]})

    def make(self, item: Item, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Made]:
        """The pipeline of one leaf; every stage asks for all of the leaf at once."""
        bench, seeds = Bench(self, context, item), item.data["seeds"]
        grounded = any("context" in seed for seed in seeds)
        drafts: list[Draft] = []
        starts = [(seed, _values(item, seed)) for seed in seeds]
        if grounded:
            starts = yield from self._contexts(bench, starts, drafts)
        yield from self._questions(bench, starts, drafts, "grounded_questions" if grounded else "questions")
        bench.left(WRITTEN, drafts)
        also = ("context",) if grounded else ()
        unique(drafts, (" ".join(str(seed.get(name, "")) for name in (*also, "question")) for seed in seeds), also)
        bench.left(DIFFERENT, drafts)
        prefix = "grounded_" if grounded else ""
        if self.judge_questions:
            yield from bench.judged(drafts, f"{prefix}question_judge", "question", 0, 1, 1)
            bench.left("3 questions accepted", drafts)
        yield from bench.answered(drafts, f"{prefix}answer" if grounded else self._persona(bench))
        bench.left("4 pairs answered", drafts)
        if self.judge_pairs:
            yield from bench.judged(drafts, f"{prefix}pair_judge", "rating", 1, self.best, self.min_rating)
        bench.left("5 pairs kept", drafts)
        context.count("leaves")
        context.count("leaves without rows", not alive(drafts))
        return [bench.row(draft, str(item.data["kind"]), *_parts(draft, grounded)) for draft in drafts]

    def _persona(self, bench: Bench) -> str:
        leaf = str(bench.item.data["leaf"])
        wanted = "answer_creative" if any(fnmatchcase(leaf, p) for p in self.creative) else "answer_precise"
        return wanted if bench.has(wanted) and "answer" not in bench.released else "answer"

    def _contexts(
        self, bench: Bench, starts: list[tuple[Any, dict[str, str]]], drafts: list[Draft]
    ) -> Generator[Sequence[Request], Sequence[Reply], list[tuple[Any, dict[str, str]]]]:
        """Starts with new contexts; what cannot be used joins the drafts with its reason."""
        if self.contexts == 0:
            return [(seed, {**values, "context": values["seed_context"]}) for seed, values in starts]
        sampling = Sampling(max_tokens=self.context_max_tokens, temperature=self.context_temperature, n=self.contexts)
        replies = yield Tolerant(
            bench.ask("contexts", values, sampling, at("contexts", self.stages, number))
            for number, (_, values) in enumerate(starts)
        )
        made: list[tuple[Any, dict[str, str]]] = []
        seen: set[str] = set()
        for (seed, values), reply in zip(starts, replies, strict=True):
            for text, why in _texts(bench, "contexts", reply):
                key = plain(text)
                why = why or (DUPLICATE if key in seen else None)
                seen.add(key)
                if why is None:
                    made.append((seed, {**values, "context": text}))
                else:
                    drafts.append(_lost(len(drafts), seed, values, "context", why, text))
        return made

    def _questions(
        self, bench: Bench, starts: list[tuple[Any, dict[str, str]]], drafts: list[Draft], stage: str
    ) -> Steps:
        count = self.questions if stage == "questions" else self.grounded_questions
        sampling = Sampling(max_tokens=self.max_tokens, temperature=self.temperature, n=self.draws)
        replies = yield Tolerant(
            bench.ask(stage, {**values, "num_samples": str(count)}, sampling, at(stage, self.stages, number))
            for number, (_, values) in enumerate(starts)
        )
        for (seed, values), reply in zip(starts, replies, strict=True):
            for text, why in _texts(bench, stage, reply):
                if why is not None:
                    drafts.append(_lost(len(drafts), seed, values, "question", why, text))
                else:
                    drafts.append(Draft(len(drafts), {**values, "question": text}, (seed["id"],)))


def _texts(bench: Bench, stage: str, reply: Any) -> Iterator[tuple[str, str | None]]:
    """Each text that a reply's completions hold, and each that cannot be used with the reason."""
    if isinstance(reply, Exception):
        yield str(reply), f"failed ({type(reply).__name__})"
        return
    completions: Sequence[Completion] = reply
    for completion in completions:
        whole, lost = bench.parts(stage, completion)
        yield from ((parts[0], None) for parts in whole)
        yield from lost


def _lost(number: int, seed: Any, values: Mapping[str, str], stage: str, why: str, text: str) -> Draft:
    draft = Draft(number, dict(values), (seed["id"],))
    draft.drop(stage, why, text)
    return draft


def _values(item: Item, seed: Mapping[str, Any]) -> dict[str, str]:
    return {
        "leaf": str(item.data["leaf"]),
        "task_description": str(seed.get("task_description") or ""),
        "seed_context": str(seed.get("context") or ""),
        "seed_question": str(seed["question"]),
        "seed_response": str(seed["answer"]),
    }


def _parts(draft: Draft, grounded: bool) -> tuple[dict[str, Any], str]:
    """The fields of a row and its user turn: question after context, as the released pipeline joins them."""
    names = ("task_description", "context", "question") if grounded else ("task_description", "question")
    fields = {name: draft.values[name] for name in names if name in draft.values}
    asked = "\n\n".join(text for name in ("context", "question") if (text := fields.get(name)))
    return fields, asked if draft.question else ""
