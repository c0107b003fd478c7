"""The iterations of one cell, step by step: which rows and models each step of the recipe reads."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import replace
from itertools import count

from harness.config.model import Recipe, Source, Step, Window
from harness.loop import choose
from harness.loop.capable import check_capable
from harness.loop.cells import Turn
from harness.loop.leaks import check_stage, clean_stage
from harness.loop.planner import Evaluation, Planner, packs
from harness.loop.stage import Binding, Input, Stage

Rows = tuple[Input, ...]


class CellPlanner:
    """Plans the iterations of one cell, step by step."""

    def __init__(self, planner: Planner, recipe: Recipe, student: str, seed: int, data_seed: int) -> None:
        self.planner, self.recipe, self.student = planner, recipe, student
        self.seed, self.data_seed = seed, data_seed
        self.rows: dict[str, dict[int, Rows]] = {}
        """`as` name of a step to the rows it gave in each iteration; a block's name may also be that of data."""
        self.trained_on: dict[int, dict[int, Rows]] = {}
        """Position of a finetune step to the rows that flowed into it in each iteration."""
        self.tuned: dict[str, Binding] = {}
        """`as` name of a finetune step to its last model: a step that does not run in each iteration keeps it."""
        self.dev: tuple[str, ...] = ()
        steps = recipe.steps
        makes = any(s.verb == "synthesize" and s.block_name != "pool" for s in steps)
        self.only_selects = not makes and recipe.loop.pool == "auto"

    def turns(self) -> Iterator[Turn]:
        start = self.planner.roles.fixed(self.student)
        for iteration in range(1, self.recipe.loop.iterations + 1):
            turn, current = self._turn(iteration, start)
            yield turn
            if self.recipe.loop.start_from == "previous":
                start = current

    def _turn(self, iteration: int, start: Binding) -> tuple[Turn, Binding]:
        student = self.planner.roles.fixed(self.student)
        models = {**self.tuned, "start": start, "current": start, "student": student}
        flow: Rows = self._pool(iteration)
        keys: list[str] = []
        train: list[str] = []
        names: dict[str, str] = {}
        for position, step in enumerate(self.recipe.steps):
            if not step.runs(iteration):
                continue
            rows = flow if step.from_ is None else self._from(step.from_, iteration)
            if step.verb == "finetune":
                rows = self._window(position, iteration, rows) if step.from_ is None else rows
                rows, checks = self._checked(rows, f"{self.recipe.name} i{iteration} {step.name}")
                keys += checks
            stage = self.planner.add(self._stage(step, iteration, rows, models))
            keys.append(stage.key)
            names[_unlike(step.name, names)] = stage.key
            if step.verb == "finetune":
                train.append(stage.key)
                self._remember(stage, checks)
                tuned = self.planner.roles.trained(stage, stage.models[stage.roles["start"]], self.recipe.name)
                block = step.block(iteration)  # not the stage's: arms that choose otherwise share the training
                if getattr(block, "choose", None) is not None:
                    tuned, steered = choose.plan(self.planner, block, tuned, stage.label, _where(step, self.recipe))
                    self.planner.checked[str(tuned.stage)] = self.planner.checked[stage.key]
                    keys += steered
                models["current"] = tuned
                if step.as_ is not None:
                    models[step.as_] = self.tuned[step.as_] = tuned
            else:
                flow = (Input(key=stage.key),)
                if step.as_ is not None:
                    self.rows.setdefault(step.as_, {})[iteration] = flow
        return self._evaluated(iteration, keys, train, names, models["current"]), models["current"]

    def _checked(self, rows: Rows, label: str) -> tuple[Rows, tuple[str, ...]]:
        """The rows that a finetune reads, and the stages that compared them with the suites' items."""
        if self.planner.check is None:
            return rows, ()
        look = self.planner.add(check_stage(*self.planner.check, rows, label))
        if self.planner.experiment.leaks.policy == "flag":
            return rows, (look.key,)
        clean = self.planner.add(clean_stage(look, label))
        return (Input(key=clean.key),), (look.key, clean.key)

    def _remember(self, stage: Stage, checks: tuple[str, ...]) -> None:
        """Rows that were trained in spite of what a check found stay with all models that start from this one."""
        start = stage.models[stage.roles["start"]].stage
        before = self.planner.checked.get(start, ()) if start is not None else ()
        own = checks if self.planner.experiment.leaks.policy == "flag" else ()
        self.planner.checked[stage.key] = tuple(dict.fromkeys(before + own))

    def _evaluated(
        self, iteration: int, keys: list[str], train: list[str], names: dict[str, str], model: Binding
    ) -> Turn:
        evaluation = Evaluation(self.planner)
        who = f"{self.recipe.name} s{self.seed} i{iteration}"
        reads_dev = iteration < self.recipe.loop.iterations and any(
            s.verb == "synthesize" and s.block(iteration + 1).uses_feedback() for s in self.recipe.steps
        )
        evaluation.add(model, ("dev", "test") if reads_dev else ("test",), who, iteration)
        steers = {s.name for s in self.planner.experiment.suites if s.block.metrics()[0].higher_is_better}
        self.dev = tuple(g["dev"] for suite, g in evaluation.grades.items() if "dev" in g and suite in steers)
        last = model.stage if train else None
        leaks = self.planner.checked.get(model.stage, ()) if model.stage is not None else ()
        return evaluation.turn(
            iteration=iteration, stages=tuple(keys), train=tuple(train), model=last, steps=names, leaks=leaks
        )

    def _stage(self, step: Step, iteration: int, rows: Rows, models: dict[str, Binding]) -> Stage:
        block = step.block(iteration)
        roles: dict[str, str] = dict(block.roles())
        used = {role: models[role] if role in models else self.planner.roles.fixed(role) for role in roles.values()}
        check_capable(block, {option: (role, used[role]) for option, role in roles.items()}, _where(step, self.recipe))
        feedback = self.dev if step.verb == "synthesize" and block.uses_feedback() else ()
        reads = step.verb != "synthesize" or block.reads_rows
        seed = None if not block.is_random() else self.seed if step.verb == "finetune" else self.data_seed
        return Stage(
            action=step.verb,
            label=f"{self.recipe.name} i{iteration} {step.name}",
            block=block,
            inputs=rows if reads else (),
            models=used,
            roles=roles,
            sources={role: self._one(Source(name=role), iteration) for role in block.sources().values()},
            feedback=feedback,
            iteration=iteration if block.is_random() and step.verb != "finetune" else None,
            seed=seed,
            fingerprint=packs(used) if block.reads_prompts else {},
        )

    def _pool(self, iteration: int) -> Rows:
        """The pool; for a recipe that only selects a slice per iteration, or its second turn would repeat the first."""
        pool = self.recipe.pool
        if pool not in self.planner.experiment.data:
            return ()
        source = Input(key=self.planner.source(pool).key, kind="data", seed=self.data_seed)
        iterations = self.recipe.loop.iterations
        if self.only_selects and iterations > 1:
            return (replace(source, slice=(iteration - 1, iterations)),)
        return (source,)

    def _from(self, sources: tuple[Source, ...], iteration: int) -> Rows:
        return tuple(row for source in sources for row in self._one(source, iteration))

    def _one(self, source: Source, iteration: int) -> Rows:
        if source.name not in self.rows:
            rows = self._pool(iteration) if source.name == "pool" else self._other(source.name)
        else:
            given = self.rows[source.name]
            wanted = {"same": [iteration], "previous": [iteration - 1], "all": list(range(1, iteration + 1))}[
                source.when
            ]
            rows = tuple(row for i in wanted for row in given.get(i, ()))
        if source.share is None:
            return rows
        return tuple(replace(row, share=source.share, seed=self.data_seed) for row in rows)

    def _other(self, name: str) -> Rows:
        raw = self.planner.experiment.data[name].format == "rows"
        return (Input(key=self.planner.source(name).key, kind="data", seed=self.data_seed, raw=raw),)

    def _window(self, position: int, iteration: int, rows: Rows) -> Rows:
        """The rows of the iterations that `loop.data` says train together."""
        given = self.trained_on.setdefault(position, {})
        given[iteration] = rows
        policy = self.recipe.loop.data
        span = policy.window if isinstance(policy, Window) else iteration if policy == "accumulate" else 1
        return tuple(row for i in range(max(1, iteration - span + 1), iteration + 1) for row in given.get(i, ()))


def _unlike(name: str, names: Container[str]) -> str:
    """The name, with a number where a step without an `as` repeats a block."""
    numbered = (f"{name}-{n}" for n in count(2))
    return name if name not in names else next(one for one in numbered if one not in names)


def _where(step: Step, recipe: Recipe) -> str:
    """Where a step is written, as messages say it."""
    return f"{step.file}:{step.line}" if step.line is not None else step.file or recipe.name
