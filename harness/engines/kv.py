"""The key/value store of the decode loop.

All rows of a batch share one *current column* `at`: each row's keys end there, so one step appends one column for every
row, without copying what is stored (growing by concatenation copies the whole store at every step and was two thirds
of the time on a small model). A row that joins later is inserted with its keys ending at the current column. When the
columns run out, everything in use is moved back to the front; positions are explicit, so a row does not notice.

    columns   0 1 2 3 4 5 6 7
    row 0     . a b c d e f     start 1
    row 1     . . . . x y z     start 4      at = 7
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from harness.engines.limits import SPARE

if TYPE_CHECKING:
    import torch

    Pair = tuple[torch.Tensor, torch.Tensor]


class Store(Protocol):
    """What one layer's attention asks for: the keys and values to look at, given those of the new tokens."""

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> Pair: ...

    def length(self) -> int:
        """Columns stored before the new tokens."""
        ...


class Prefill:
    """Keeps the keys and values of whole prompts, shape (rows, heads, T, width) per layer.

    With `before`, which holds one row, all rows begin with that: it was read once, and stands before what is read now.
    """

    def __init__(self, before: Prefill | None = None) -> None:
        self.layers: list[Pair] = []
        self._before = before

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> Pair:
        self.layers.append(_behind(self._before, keys, values, layer))
        return self.layers[-1]

    @property
    def tokens(self) -> int:
        """Positions that are kept, with those of `before`."""
        return int(self.layers[0][0].shape[2])

    def length(self) -> int:
        return 0 if self._before is None else self._before.tokens


class Nothing:
    """Keeps nothing: for forwards that are not continued. `before` as in `Prefill`."""

    def __init__(self, before: Prefill | None = None) -> None:
        self._before = before

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> Pair:
        return _behind(self._before, keys, values, layer)

    def length(self) -> int:
        return 0 if self._before is None else self._before.tokens


def _behind(before: Prefill | None, keys: torch.Tensor, values: torch.Tensor, layer: int) -> Pair:
    if before is None:
        return keys, values
    import torch

    mine, theirs = (side.expand(len(keys), -1, -1, -1) for side in before.layers[layer])
    return torch.cat([mine, keys], 2), torch.cat([theirs, values], 2)


class Slots:
    """Room for `rows` rows, the first `count` of them active.

    Keys and values of all layers of one shape lie in one *plane* (sides, rows, heads, columns, width), so that moving
    rows is one operation for the whole model.
    """

    def __init__(self, rows: int, device: Any, need: int = 0) -> None:
        """`need`: columns that are allocated at once, so that the store is never grown (and held twice meanwhile)."""
        import torch

        self.rows, self._least = rows, need + SPARE
        self.count = 0
        self.at = 0
        self.low = 0
        """First column that an active row uses."""
        self.capacity = 0
        self.start = torch.zeros(rows, dtype=torch.int64, device=device)
        self.columns = torch.arange(0, device=device)
        self._starts = [0] * rows
        self._planes: list[torch.Tensor] = []
        self._places: list[tuple[int, int]] = []
        """Plane and side of each layer's keys, then of its values, and so on."""
        self._layers: list[Pair] = []

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> Pair:
        """Appends one column: keys and values (n, heads, 1, width); returns views over all columns in use."""
        n, low, end = keys.shape[0], self.low, self.at + 1
        mine, theirs = self._layers[layer]
        mine[:n, :, self.at] = keys[:, :, 0]
        theirs[:n, :, self.at] = values[:, :, 0]
        return mine[:n, :, low:end], theirs[:n, :, low:end]

    def length(self) -> int:
        return self.at - self.low

    def advance(self) -> None:
        """Closes the current column and makes sure that the next one exists."""
        self.at += 1
        if self.at >= self.capacity:
            self._place(self.at - self.low)

    def place_for(self, length: int) -> None:
        """Makes room for joining rows of this length before the current column."""
        if not self.count or length > self.at:
            self._place(length)

    def insert(self, prefill: Prefill, rows: Sequence[tuple[int, int]]) -> None:
        """Appends rows: for each (row of the prefill, its length), the first columns of that row are copied."""
        if not self._planes:
            self._allocate(prefill)
        first = self.count
        for sources, length in _runs(rows):
            into = slice(self.count, self.count + len(sources))
            columns = slice(self.at - length, self.at)
            for (mine, theirs), (keys, values) in zip(self._layers, prefill.layers, strict=True):
                mine[into, :, columns] = _rows(keys, sources)[:, :, :length]
                theirs[into, :, columns] = _rows(values, sources)[:, :, :length]
            self._starts[into] = [self.at - length] * len(sources)
            self.count += len(sources)
        self.start[first : self.count] = self.start.new_tensor(self._starts[first : self.count])
        self._settle()

    def keep(self, rows: Sequence[int]) -> list[tuple[int, int]]:
        """Lets all but these active rows go and closes the gaps; returns the moves (from, to) that it made."""
        staying = set(rows)
        holes = [row for row in range(len(rows)) if row not in staying]
        movers = [row for row in rows if row >= len(rows)]
        moves = list(zip(movers, holes, strict=True))
        for old, new in moves:
            for plane in self._planes:
                plane[:, new, :, self.low : self.at] = plane[:, old, :, self.low : self.at]
            self.start[new] = self.start[old]
            self._starts[new] = self._starts[old]
        self.count = len(rows)
        self._settle()
        return moves

    def _settle(self) -> None:
        self.low = min(self._starts[: self.count], default=self.at)

    def _place(self, at: int) -> None:
        """Moves what is in use so that the current column is `at` (at least the width in use), growing if needed."""
        import torch

        width, columns = self.at - self.low, max(self.capacity, self._least, at + SPARE)
        self._planes = [self._moved(plane, width, at, columns) for plane in self._planes]
        self._view()
        shift = at - self.at
        self.start += shift
        self._starts = [start + shift for start in self._starts]
        if columns > self.capacity:
            self.capacity, self.columns = columns, torch.arange(columns, device=self.start.device)
        self.at = at
        self._settle()

    def _moved(self, plane: torch.Tensor, width: int, at: int, columns: int) -> torch.Tensor:
        content = plane[:, : self.count, :, self.low : self.at]
        if columns > plane.shape[3]:
            plane = plane.new_zeros((*plane.shape[:3], columns, plane.shape[4]))
        else:
            content = content.clone()
        plane[:, : self.count, :, at - width : at] = content
        return plane

    def _allocate(self, prefill: Prefill) -> None:
        """One plane per distinct shape (heads, width) of keys and values: one in nearly all models."""
        sides = [side for pair in prefill.layers for side in pair]
        shapes = [(side.shape[1], side.shape[3]) for side in sides]
        kinds = list(dict.fromkeys(shapes))
        self._places = [(kinds.index(shape), shapes[:at].count(shape)) for at, shape in enumerate(shapes)]
        for heads, width in kinds:
            count = shapes.count((heads, width))
            self._planes.append(sides[0].new_zeros((count, self.rows, heads, self.capacity, width)))
        self._view()

    def _view(self) -> None:
        views = [self._planes[plane][side] for plane, side in self._places]
        self._layers = list(zip(views[::2], views[1::2], strict=True))


def as_cache(store: Store) -> Any:
    """The store as the `Cache` object that Hugging Face models expect."""
    return _cache_class()(store)


def without_cache(before: Prefill | None = None) -> Any:
    """A `Cache` that keeps nothing. Its presence alone spares models the search for packed sequences."""
    return _cache_class()(Nothing(before))


_CLASSES: list[Any] = []


def _cache_class() -> Any:
    if not _CLASSES:
        from transformers.cache_utils import Cache

        class StoreCache(Cache):
            """Passes the questions of the models on to a `Store`."""

            is_compileable = False
            is_initialized = True
            is_sliding = (False,)

            def __init__(self, store: Store) -> None:
                super().__init__(layers=[])
                self.store = store

            def update(self, key_states: Any, value_states: Any, layer_idx: int, *_: Any, **__: Any) -> Any:
                return self.store.update(key_states, value_states, layer_idx)

            def get_seq_length(self, layer_idx: int = 0) -> int:
                return self.store.length()

            def get_query_offset(self, layer_idx: int = 0) -> int:
                return self.store.length()

            def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
                return self.store.length() + query_length, 0

        _CLASSES.append(StoreCache)
    return _CLASSES[0]


def _runs(rows: Sequence[tuple[int, int]]) -> list[tuple[list[int], int]]:
    """Neighbours of equal length together: one copy each instead of one per row."""
    groups: list[tuple[list[int], int]] = []
    for source, length in rows:
        if groups and groups[-1][1] == length:
            groups[-1][0].append(source)
        else:
            groups.append(([source], length))
    return groups


def _rows(keys: torch.Tensor, sources: list[int]) -> torch.Tensor:
    if sources == list(range(sources[0], sources[0] + len(sources))):
        return keys[sources[0] : sources[0] + len(sources)]
    return keys[sources]
