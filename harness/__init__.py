"""loopbench: which data recipe makes the better model, and is the difference real?

`harness.plan`, `harness.run`, `harness.items`, `harness.compare` and `harness.score` are the Python API; see
`harness.api`.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "compare", "items", "load", "plan", "run", "score"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from harness import api

        return getattr(api, name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
