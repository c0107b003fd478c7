"""What a worker keeps between stages: open engines and chat formats, so stages on one model share its opening."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.engines.base import Engine, ModelSpec
from harness.errors import UserError
from harness.loop.devices import visible_devices
from harness.loop.stage import Binding, Stage
from harness.store.artifacts import Store
from harness.store.home import Home

if TYPE_CHECKING:
    from harness.loop.clock import Timer

MODEL = "model"


def located(store: Store, binding: Binding) -> ModelSpec:
    """The model with its folder: a stage's output is looked up in the store, its files checked."""
    if binding.stage is None:
        return binding.spec
    path = store.open("model", binding.stage) / (binding.part or MODEL)
    return replace(binding.spec, path=path, revision=binding.revision)


class Engines:
    """Open engines, the most recently used last; only `keep` stay open, because each holds a model's memory.

    Served models and the hashed embedder hold none: they stay open beside those. `need` is how many models the stage
    at work asks in turn: so many stay open while it runs, or each of its shards would load them anew. vLLM, and a
    server of our own, take nearly a whole GPU: there they are open alone, but for others that the stage asks too.
    """

    def __init__(self, store: Store, threads: int, keep: int = 2, home: Home | None = None, workers: int = 1) -> None:
        """`home` is where replies of served models are kept (by default the store's).

        `workers` share the device, this one among them: what would take nearly all of it takes its part of that.
        """
        self._store, self._threads, self._keep, self._workers = store, threads, keep, workers
        self._home = home or store.home
        self._open: OrderedDict[str, Engine] = OrderedDict()
        self._parts: dict[str, int] = {}
        """Among how many models the device was divided when an engine was opened."""
        self._light: dict[str, Engine] = {}
        self._asked: set[str] = set()
        self.need = 0
        self._chats: dict[str, Any] = {}
        self.opened = 0
        """Models loaded so far; a served one costs nothing to open."""
        self._notes: list[str] = []

    def get(self, binding: Binding, timer: Timer) -> Engine:
        """The open engine of a model, opened now where it is not."""
        spec = located(self._store, binding)
        # Two roles may ask one served model with other limits or prices: then they are two engines.
        settings = str(sorted(spec.options.items(), key=str)) if spec.engine in ("openai", "vllm") else ""
        if _takes_all(spec) and visible_devices():
            settings += f" shared by {self._sharers}"  # it was opened with its part of the device
        name = f"{spec.engine}:{spec.revision}:{spec.dtype}:{spec.path}:{settings}"
        if not spec.holds:
            return self._without_memory(name, spec, timer)
        self._asked.add(name)
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name]
        with timer("import"):
            if spec.engine == "transformers":
                from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401 - the slow part of opening

            from harness.engines import open_engine

        with timer("open"):
            engine = self._beside(spec)
            if engine is None:
                self._make_room(spec)
                models = self._sharers * self._workers
                engine = open_engine(spec, threads=self._threads, home=self._home, models=models)
            self._open[name], self._parts[name] = engine, self._sharers
        self.opened += 1
        return engine

    @property
    def _sharers(self) -> int:
        """Models of this worker that share the device now."""
        return max(1, self.need)

    def _beside(self, spec: ModelSpec) -> Engine | None:
        """An engine for an adapter whose base is open with vLLM for another adapter; None where there is none."""
        for engine in self._open.values() if spec.engine == "vllm" else ():
            beside = getattr(engine, "beside", None)
            found: Engine | None = beside(spec, self._threads) if beside is not None else None
            if found is not None:
                return found
        return None

    def _make_room(self, spec: ModelSpec) -> None:
        """Closes the least recently used engines: what is more than may be kept, and what needs the device alone.

        One that took another part of the device than its turn would give it now goes too: the rest may not suffice.
        """
        keep = max(self._keep, self.need)
        if visible_devices() and any(_takes_all(one) for one in (spec, *(e.spec for e in self._open.values()))):
            keep = self._sharers
            for name, engine in list(self._open.items()):
                if _takes_all(engine.spec) and self._parts[name] != self._sharers:
                    self._end(name)
        while len(self._open) >= keep:
            self._end(next(iter(self._open)))

    def begin(self) -> tuple[int, ...]:
        """A stage begins. Returns the processes besides this one that open models run in: vLLM's, started servers'."""
        self._asked = set(self._open)
        found = self.processes()
        self._asked.clear()
        return found

    def processes(self) -> tuple[int, ...]:
        """Those of models that were asked for since `begin`: what merely stays open is no part of a stage."""
        engines = (engine for name, engine in self._open.items() if name in self._asked)
        return tuple(dict.fromkeys(pid for engine in engines for pid in getattr(engine, "pids", ())))

    def notes(self) -> list[str]:
        """What happened in the engines since the last call that the user should know, such as memory that ran out."""
        found = self._notes + [f"{e.spec.name}: {note}" for e in self._open.values() for note in _told(e)]
        self._notes = []
        return found

    def _end(self, name: str) -> None:
        engine = self._open.pop(name)
        self._parts.pop(name, None)
        self._notes += [f"{engine.spec.name}: {note}" for note in _told(engine)]
        engine.close()

    def free(self, everything: bool = False) -> None:
        """Ends engines of other processes, so that a training has what they held; `everything`: all local ones."""
        for name, engine in list(self._open.items()):
            if everything or _takes_all(engine.spec):
                self._end(name)

    def _without_memory(self, name: str, spec: ModelSpec, timer: Timer) -> Engine:
        if name not in self._light:
            with timer("import"):
                from harness.engines import open_engine
            self._light[name] = open_engine(spec, home=self._home)
        return self._light[name]

    def chat(self, binding: Binding, timer: Timer) -> Any:
        """The chat format of a model, without opening its weights."""
        spec = located(self._store, binding)
        if spec.path is None:
            raise UserError(
                f"the model {spec.name} has no folder, so its tokenizer is not known here: bind a model folder to the "
                "role of what needs token ids"
            )
        if str(spec.path) not in self._chats:
            with timer("import"):
                from transformers import AutoTokenizer  # noqa: F401 - the slow part of opening

                from harness.records.chat import ChatFormat
            with timer("open"):
                self._chats[str(spec.path)] = ChatFormat.from_folder(spec.path)
        return self._chats[str(spec.path)]

    def close(self) -> None:
        """Gives all models' memory back."""
        while self._open:
            self._open.popitem()[1].close()
        while self._light:
            self._light.popitem()[1].close()


def _takes_all(spec: ModelSpec) -> bool:
    return spec.holds and spec.engine != "transformers"


def _told(engine: Engine) -> list[str]:
    notes: Callable[[], list[str]] | None = getattr(engine, "notes", None)
    return [] if notes is None else notes()


class Chats(Mapping[str, Any]):
    """Role to chat format for one stage, opened when first asked for."""

    def __init__(self, stage: Stage, engines: Engines, timer: Timer) -> None:
        self._stage, self._engines, self._timer = stage, engines, timer

    def __getitem__(self, role: str) -> Any:
        return self._engines.chat(self._stage.models[role], self._timer)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stage.models)

    def __len__(self) -> int:
        return len(self._stage.models)
