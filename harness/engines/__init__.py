"""How models are run: generate, score and embed token ids, behind small protocols (`harness.engines.base`)."""

from harness.engines.open import capabilities, check, open_engine, ready
from harness.engines.revision import revision_of

__all__ = ["capabilities", "check", "open_engine", "ready", "revision_of"]
