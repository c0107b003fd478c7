"""Which engine runs each model of a plan, and why."""

from __future__ import annotations

from typing import Any

from harness.loop.plan import Plan


def engines_of(plan: Plan) -> dict[str, dict[str, Any]]:
    """By model, as the plan names it: engine, dtype, and the reason where `engine: auto` chose.

    A model that several engines run is named with each: `pocket/base (vllm, float32)`.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for spec in (binding.spec for stage in plan.stages.values() for binding in stage.models.values()):
        about = {"engine": spec.engine, "dtype": spec.dtype} | ({"why": spec.why} if spec.why else {})
        found.setdefault(spec.name, {})[f"{spec.engine}, {spec.dtype}"] = about
    return {
        name if len(ways) == 1 else f"{name} ({way})": about
        for name, ways in sorted(found.items())
        for way, about in sorted(ways.items())
    }


def reasons(plan: Plan) -> list[str]:
    """One line per model whose engine was chosen: `teacher: vllm (auto: ...)`."""
    found = engines_of(plan)
    return [f"engine of {name}: {about['engine']} ({about['why']})" for name, about in found.items() if "why" in about]
