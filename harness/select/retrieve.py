"""`retrieve`: passages that bear on a row's question, from documents of one's own or from a web search."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from harness.blocks.base import OptionalRole, OptionalSource, identity, runtime
from harness.blocks.kinds import Columns, Context, Reply, Request, Scorer
from harness.engines.base import Capability
from harness.records.example import Example
from harness.records.tasks import SHIPPED, load_tasks
from harness.records.values import Count, FilePath
from harness.select._asked import vectors
from harness.select._kept import kept
from harness.select._lookup import web
from harness.select._lookup.base import Looked, Provider
from harness.select._lookup.index import VectorIndex, WordIndex
from harness.select._lookup.passages import passages

NOT_ASKED = "not asked"


class Retrieve(Scorer):
    """Looks up passages; writes `field:evidence` (a list of texts), the score `evidence` (their number) and
    `tag:retrieved`, which says how it went: `found`, `no hits`, `not asked`, or `failed: timeout` and the like.

    Only rows of one turn are asked for, and with `task` only those whose task wants evidence. Ways, in `by`:

    * `words`: BM25 over passages of `documents` (library bm25s). Offline, no model.
    * `model`: cosine of the mean-pooled vectors of `model`; a role that is bound to `hashed` needs no model.
    * `web`: a search service. A search that fails is recorded and the row goes on without evidence.
    """

    name: ClassVar[str] = "retrieve"
    shipped: ClassVar[tuple[str, ...]] = SHIPPED

    by: Literal["words", "model", "web"] = identity(
        "words", description="How passages are found.", source="2402.12219 §3.2: web, Google through Serper"
    )
    documents: OptionalSource = identity(None, description="Where passages are found; not for `web`.")
    column: str | None = identity(None, description="The documents' text column; by default `text`, or their answers.")
    tags: Mapping[str, str] = identity({}, description="Only documents with these tags, such as {part: document}.")
    words: Count = identity(120, description="Longest passage; documents are cut at paragraphs.", unit="words")
    model: OptionalRole = identity(None, description="The model that embeds, for `by: model`.")
    hits: Count = identity(5, description="Passages per row, at most.", source="2402.12219 App. A: top 5")
    task: str | None = identity(
        None, description="The tag that names a row's task; only tasks with `evidence` in `taxonomy` are asked for."
    )
    taxonomy: FilePath = identity("realign", description="Which tasks those are: realign, pocket or a path.")
    url: str = identity(web.URL, description="Of the search service.", source="released google_serper.py")
    key_env: str = runtime("SERPER_API_KEY", description="The environment variable that holds the service's key.")
    country: str = identity("us", description="Where the search is made from.", source="released google_serper.py")
    language: str = identity("en", description="Of the search.", source="released google_serper.py")
    timeout: float = runtime(20.0, gt=0, description="One try of one search.", unit="seconds")
    tries: Count = runtime(3, description="How often a search that fails is tried, with growing waits.")
    at_once: Count = runtime(8, description="Searches under way at the same time.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.by == "web") != (self.documents is None):
            raise ValueError(f"`by: {self.by}` {'reads no' if self.by == 'web' else 'needs'} `documents`")
        if (self.by == "model") != (self.model is not None):
            raise ValueError("`by: model` and `model` belong together")
        return self

    def asks(self) -> dict[str, frozenset[Capability]]:
        """A model that embeds."""
        return {"model": frozenset({"embed"})}

    def identity_options(self) -> dict[str, Any]:
        """The taxonomy counts by its content, where it is read."""
        options = super().identity_options()
        options["taxonomy"] = load_tasks(self.taxonomy).digest if self.task else None
        return options

    def check_ready(self) -> None:
        """A search needs its key."""
        if self.by == "web":
            web.key_from(self.key_env)

    def columns(self) -> tuple[str, ...]:
        """Passages, their number, and the outcome."""
        return ("evidence", "field:evidence", "tag:retrieved")

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """Asks for all rows that want evidence at once; the index is made once per stage and process."""
        wanted = [row for row in batch if self._wanted(row)]
        found = iter((yield from self._found([_question(row) for row in wanted], context)) if wanted else ())
        looked = [next(found) if self._wanted(row) else Looked(outcome=NOT_ASKED) for row in batch]
        for one in looked:
            context.count(one.outcome)
        return {
            "evidence": [float(len(one.passages)) if _answered(one) else None for one in looked],
            "field:evidence": [list(one.passages) or None for one in looked],
            "tag:retrieved": [one.outcome for one in looked],
        }

    def _wanted(self, row: Example) -> bool:
        turns = [message["role"] for message in row.messages if message["role"] != "system"]
        if turns.count("user") != 1 or not _question(row):
            return False
        if self.task is None:
            return True
        task = load_tasks(self.taxonomy).get(row.tags.get(self.task))
        return task is not None and task.evidence

    def _found(
        self, questions: list[str], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], list[Looked]]:
        if self.by != "model":
            return self._provider(context).look_up(questions, self.hits)
        index = yield from self._embedded(context)
        return index.nearest((yield from vectors(questions, self.model or "")), self.hits)

    def _provider(self, context: Context) -> Provider:
        if self.by == "web":
            return web.WebSearch(
                key=web.key_from(self.key_env),
                url=self.url,
                country=self.country,
                language=self.language,
                timeout=self.timeout,
                tries=self.tries,
                at_once=self.at_once,
            )
        known, name, rows = self._known(context)
        if name not in known:
            known[name] = WordIndex(passages(rows, self.column, self.words))
        provider: Provider = known[name]
        return provider

    def _known(self, context: Context) -> tuple[dict[str, Any], str, Iterable[Any]]:
        """Indexes that are kept beside the documents, the name of this block's own, and the rows to make it of."""
        rows = context.sources[self.documents or ""]
        name = self.model_dump_json(include={"by", "column", "tags", "words", "model"})
        return kept(rows), name, (row for row in rows if self._meant(row))

    def _meant(self, row: Any) -> bool:
        have = row.tags if isinstance(row, Example) else row
        return all(have.get(name) == value for name, value in self.tags.items())

    def _embedded(self, context: Context) -> Generator[Sequence[Request], Sequence[Reply], VectorIndex]:
        known, name, rows = self._known(context)
        if name not in known:
            texts = passages(rows, self.column, self.words)
            known[name] = VectorIndex(texts, (yield from vectors(texts, self.model or "")))
        index: VectorIndex = known[name]
        return index


def _question(row: Example) -> str:
    return next((m["content"].strip() for m in row.messages if m["role"] == "user"), "")


def _answered(one: Looked) -> bool:
    return one.outcome != NOT_ASKED and not one.outcome.startswith("failed")
