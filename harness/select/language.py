"""`language`: the language that a text is written in, by a detector that needs no network."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import cache
from typing import Any, ClassVar, Literal

from harness.blocks.base import identity
from harness.blocks.kinds import Columns, Context, Reply, Request, Scorer
from harness.errors import UserError
from harness.records.example import Example, prompt_text


class Language(Scorer):
    """Tag `language`: an ISO 639-1 code (`en`), and score `language_sureness` (0..1).

    The detector is py3langid (its model comes with the package). The paper used lingua, whose models are a download
    of 96 MB: the two differ on short texts. A text without a letter, or one whose best guess is less sure than
    `least`, has no language: both columns are None there.
    """

    name: ClassVar[str] = "language"

    of: Literal["prompt", "answer"] = identity("prompt", description="The text.", source="2406.08464 App. D: inputs")
    least: float = identity(0.0, ge=0, le=1, description="Sureness below which no language is named.")
    among: tuple[str, ...] = identity(
        (), description="ISO codes of the languages that come into question; all by default."
    )

    def columns(self) -> tuple[str, ...]:
        """The code, and how sure it is."""
        return ("tag:language", "language_sureness")

    def score(
        self, batch: Sequence[Example], context: Context
    ) -> Generator[Sequence[Request], Sequence[Reply], Columns]:
        """Each row by itself; asks nothing."""
        yield from ()
        found = [self._detected(prompt_text(row) if self.of == "prompt" else row.answer or "") for row in batch]
        for code, _ in found:
            context.count(f"language: {code or 'none'}")
        return {"tag:language": [code for code, _ in found], "language_sureness": [sure for _, sure in found]}

    def _detected(self, text: str) -> tuple[str | None, float | None]:
        if not any(character.isalpha() for character in text):
            return None, None
        code, sure = _detector(self.among).classify(text)
        return (str(code), float(sure)) if sure >= self.least else (None, None)


@cache
def _detector(among: tuple[str, ...]) -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    detector = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    try:
        detector.set_languages(list(among) or None)
    except ValueError as error:
        raise UserError(f"language: `among` is not understood ({error}); give ISO 639-1 codes such as en") from error
    return detector
