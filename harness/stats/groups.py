"""Tie groups: which recipes the data do not tell apart."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice

MOST = 12
"""Groups that a reader can still follow. Overlapping ones can be exponentially many in the number of names."""


def tie_groups(ranked: Sequence[str], separable: Iterable[Collection[str]]) -> tuple[tuple[str, ...], ...]:
    """The largest sets in which no two are told apart, in the order of `ranked`.

    Being a tie is not transitive (the first and the last of three may differ while the middle one differs from
    neither), so groups may overlap, as in a compact letter display. Empty where there are more than `MOST` of them.

    Args:
        ranked: names from best to worst.
        separable: the pairs that a corrected test tells apart.
    """
    import networkx as nx

    apart = {frozenset(pair) for pair in separable}
    place = {name: index for index, name in enumerate(ranked)}
    graph = nx.Graph()
    graph.add_nodes_from(ranked)
    graph.add_edges_from(
        (a, b) for i, a in enumerate(ranked) for b in ranked[i + 1 :] if frozenset((a, b)) not in apart
    )
    found = list(islice(nx.find_cliques(graph), MOST + 1))
    if len(found) > MOST:
        return ()
    cliques = (sorted(clique, key=lambda name: place[name]) for clique in found)
    return tuple(sorted((tuple(c) for c in cliques), key=lambda c: [place[name] for name in c]))
