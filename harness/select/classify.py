"""`classify`: a label for each row from a text classifier that is trained on labelled rows first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from typing import Any, ClassVar

from harness.blocks.base import OptionalRole, SourceRole, identity
from harness.blocks.kinds import Columns, Context, Reply, Request, Scorer
from harness.engines.base import Capability
from harness.errors import UserError
from harness.records.example import Example, prompt_text
from harness.select._asked import vectors
from harness.select._kept import kept


class Classify(Scorer):
    """Learns the labels of `labelled` and writes `tag:<column>`, and the score `<column>_confidence`.

    The classifier is scikit-learn's logistic regression, one label against the rest, on tf-idf weights of words and
    pairs of words, or with `model` on its mean-pooled vectors: seconds for a thousand labelled rows, and the same
    result each time. It reads the prompt alone. A row without a prompt, or below `least` confidence, gets no label;
    `tag:<column>.problem` says why (`no prompt`, `not confident`), `field:<column>.nearest` which label was nearest.
    """

    name: ClassVar[str] = "classify"

    labelled: SourceRole = identity("labelled", description="The rows to learn from.")
    label: str = identity("category", description="Their tag or column that is the label.")
    text: str = identity("instruction", description="Their text column, where they are no examples but plain rows.")
    model: OptionalRole = identity(None, description="A model whose vectors are learnt from, instead of words.")
    column: str = identity("task", description="Name of the tag that is written.")
    least: float = identity(0.0, ge=0, le=1, description="Labels of less confidence are not given.", unit="probability")
    strength: float = identity(
        10.0, gt=0, description="Inverse of the regularisation; larger fits the labelled rows more closely."
    )

    def columns(self) -> tuple[str, ...]:
        """Label, its probability, and why there is none."""
        name = self.column
        return (f"tag:{name}", f"{name}_confidence", f"tag:{name}.problem", f"field:{name}.nearest")

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """Asks for vectors, if any; trains once per stage and process."""
        texts = [prompt_text(row).strip() for row in batch]
        said = iter((yield from self._said([text for text in texts if text], context)))
        found = [next(said) if text else (None, None) for text in texts]
        sure = [chance is not None and chance >= self.least for _, chance in found]
        whys = [None if ok else "not confident" if text else "no prompt" for text, ok in zip(texts, sure, strict=True)]
        name, labels = self.column, [label if ok else None for (label, _), ok in zip(found, sure, strict=True)]
        for label, why in zip(labels, whys, strict=True):
            context.count(f"{name}: {label or why}")
        return {
            f"tag:{name}": labels,
            f"{name}_confidence": [chance for _, chance in found],
            f"tag:{name}.problem": whys,
            f"field:{name}.nearest": [None if ok else label for (label, _), ok in zip(found, sure, strict=True)],
        }

    def asks(self) -> dict[str, frozenset[Capability]]:
        """A model that embeds."""
        return {"model": frozenset({"embed"})}

    def _said(
        self, texts: list[str], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], list[tuple[str | None, float | None]]]:
        if not texts:
            return []
        model = yield from self._trained(context)
        chances = model.predict_proba((yield from self._features(texts)))
        best = chances.argmax(axis=1)
        return [(str(model.classes_[k]), float(row[k])) for k, row in zip(best, chances, strict=True)]

    def _trained(self, context: Context) -> Generator[Sequence[Request], Sequence[Reply], Any]:
        rows = context.sources[self.labelled]
        known, options = kept(rows), self.model_dump_json()
        if options not in known:
            texts, labels = self._examples(rows)
            known[options] = train((yield from self._features(texts)), labels, self.strength)
        return known[options]

    def _features(self, texts: list[str]) -> Generator[Sequence[Request], Sequence[Reply], Any]:
        """The texts themselves, or their vectors of shape (texts, hidden)."""
        return texts if self.model is None else (yield from vectors(texts, self.model))

    def _examples(self, rows: Iterable[Any]) -> tuple[list[str], list[str]]:
        pairs = [self._example(row) for row in rows]
        kept = [(text, label) for text, label in pairs if text and label]
        labels = Counter(label for _, label in kept)
        if len(labels) < 2:
            raise UserError(
                f"classify: of {len(pairs):,} labelled rows, {len(kept):,} have a text and a label in {self.label!r}, "
                f"with {len(labels)} different label{'s' * (len(labels) != 1)}; at least two are needed. `label` names "
                "the tag or column with the label, `text` the text column of plain rows"
            )
        return [text for text, _ in kept], [label for _, label in kept]

    def _example(self, row: Any) -> tuple[str, str]:
        if isinstance(row, Example):
            return prompt_text(row).strip(), str(row.tags.get(self.label) or row.fields.get(self.label) or "")
        return str(row.get(self.text) or "").strip(), str(row.get(self.label) or "")


def train(features: Any, labels: Sequence[str], strength: float) -> Any:
    """A fitted scikit-learn classifier with `predict_proba` and `classes_`, of texts or of vectors."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    first = (
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
        if isinstance(features, list)
        else StandardScaler()
    )
    model = LogisticRegression(C=strength, class_weight="balanced", solver="liblinear", random_state=0)
    return make_pipeline(first, OneVsRestClassifier(model)).fit(features, list(labels))
