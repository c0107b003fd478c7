"""Which engine runs each model of a plan, and why."""

from __future__ import annotations

from typing import Any

from harness.loop.plan import Plan


def engines_of(plan: Plan) -> dict[str, dict[str, Any]]:
    """By model, as the plan names it: engine, dtype, and the reason where `engine: auto` chose."""
    specs = {b.spec.name: b.spec for stage in plan.stages.values() for b in stage.models.values()}
    return {
        name: {"engine": spec.engine, "dtype": spec.dtype} | ({"why": spec.why} if spec.why else {})
        for name, spec in sorted(specs.items())
    }


def reasons(plan: Plan) -> list[str]:
    """One line per model whose engine was chosen: `teacher: vllm (auto: ...)`."""
    found = engines_of(plan)
    return [f"engine of {name}: {about['engine']} ({about['why']})" for name, about in found.items() if "why" in about]
