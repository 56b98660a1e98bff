"""Why a network is bounded, or which way the input takes past everything that could bound it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import torch

from farfield.growth.graph import Affine, Ball, Node

_MOST = 3  # names in a sentence
_LEADING = ("attention", "weighted mean")  # what weighs the values does not let them grow


def bounding(outputs: Sequence[Node]) -> list[Node]:
    """The bounded values that are made from unbounded ones, and on which the outputs depend."""
    found: dict[int, Node] = {}
    seen: set[int] = set()
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node.index in seen:
            continue
        seen.add(node.index)
        parents = _leading(node)
        if any(not parent.is_bounded for parent in parents) and node.is_bounded:
            found[node.index] = node
        else:
            waiting += parents
    return [found[index] for index in sorted(found)]


def carried(output: Node) -> list[Node]:
    """The way of the fastest growth, from the input to this output."""
    way = [output]
    while way[-1].parents:
        parents = [parent for parent in _leading(way[-1]) if not parent.is_bounded]
        if not parents:
            break
        # Of equals the oldest: a skip connection rather than what it goes around.
        way.append(max(parents, key=lambda p: (float(p.degree.max()), -p.index)))
    return way[::-1]


def why_bounded(outputs: Sequence[Node], *, is_box: bool) -> str:
    """One sentence."""
    nodes = bounding(outputs)
    if not nodes:
        if is_box:
            return "The domain is a box, and a continuous function of a box is bounded."
        return "The output depends on the input through bounded values alone."
    unique = {_name(node) for node in nodes}
    names = _names(_name(node) for node in nodes)
    return f"{names} bound{'s' if len(unique) == 1 else ''} everything after it" + (
        "." if len(unique) == 1 else ", each on its branch."
    )


def why_unbounded(output: Node, nodes: Sequence[Node]) -> str:
    """One sentence or two."""
    way = carried(output)
    on_way = {node.index for node in way}
    balls = [node for node in nodes if isinstance(node.step, Ball)]
    skips = _skips(way)
    if skips:
        past = "every norm" if balls else "the layers inside it"
        plural = len(skips) > 1
        text = (
            f"The skip connection{'s' if plural else ''} around {_names(skips)} "
            f"carr{'y' if plural else 'ies'} the input past {past}."
        )
    elif balls and not any(ball.index in on_way for ball in balls):
        text = f"The way {_route(way)} passes no norm."
    else:
        text = f"Nothing on the way {_route(way)} bounds it."
    fixed = [
        node for node in way if isinstance(node.step, Affine) and node.step.kind == "batch norm"
    ]
    if fixed:
        verb = "is a fixed affine map" if len(fixed) == 1 else "are fixed affine maps"
        names = _names(_name(node) for node in fixed)
        text += f" {names} {verb} in eval mode and bound{'s' if len(fixed) == 1 else ''} nothing."
    return text


def route(output: Node) -> tuple[str, ...]:
    """The modules on the way of the fastest growth, from the input on."""
    return tuple(dict.fromkeys(_name(node) for node in carried(output) if node.parents))


def _leading(node: Node) -> list[Node]:
    if node.place.operation in _LEADING:
        return [node.parents[0]]
    return list(node.parents)


def _skips(way: Sequence[Node]) -> list[str]:
    """What the sums on the way add to what is carried: names of modules."""
    names = []
    for below, node in itertools.pairwise(way):
        if not (isinstance(node.step, Affine) and node.step.kind == "add"):
            continue
        before = _ancestors(below)
        for other in node.parents:
            branch = _ancestors(other) - before
            if other is below or not branch or not _depends_on(other, below):
                continue
            names.append(_around([n for n in branch if n.parents], node.place.path))
    return list(dict.fromkeys(name for name in names if name))


def _depends_on(node: Node, below: Node) -> bool:
    """Whether both come from the same value other than by chance: from one input at least."""
    return any(not n.parents for n in _ancestors(node) & _ancestors(below))


def _around(branch: Sequence[Node], inside: str) -> str:
    """The modules of a branch, as the module that adds it knows them."""
    head = f"{inside}." if inside else ""
    children = []
    for node in sorted(branch, key=lambda n: n.index):
        path = node.place.path
        if path.startswith(head) and path != inside:
            children.append(head + path[len(head) :].split(".")[0])
    names = list(dict.fromkeys(children))
    if not names:
        return f"'{inside}'" if inside else "a part of the model"
    return f"'{names[0]}'" if len(names) == 1 else f"'{names[0]}' to '{names[-1]}'"


def _ancestors(node: Node) -> set[Node]:
    found = {node}
    waiting = [node]
    while waiting:
        for parent in waiting.pop().parents:
            if parent not in found:
                found.add(parent)
                waiting.append(parent)
    return found


def _route(way: Sequence[Node]) -> str:
    names = list(dict.fromkeys(_name(node) for node in way if node.parents))
    if len(names) > 2 * _MOST:
        names = [*names[:_MOST], "...", *names[-_MOST:]]
    return " -> ".join(names) or "from input to output"


def _name(node: Node) -> str:
    place = node.place
    kind = node.step.kind if isinstance(node.step, Ball) else ""
    if kind and place.kind != kind:  # a functional call inside of another module
        return f"{kind} in {place.kind} {place.path!r}" if place.path else f"{kind} in {place.kind}"
    return str(place)


def _names(names: Iterable[str]) -> str:
    unique = list(dict.fromkeys(names))
    shown = unique[:_MOST]
    more = len(unique) - len(shown)
    if more:
        return f"{', '.join(shown)} and {more} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def worst_output(outputs: Sequence[Node]) -> Node:
    """The output of the highest degree among the unbounded ones."""
    unbounded = [node for node in outputs if not node.is_bounded]
    return max(unbounded, key=lambda node: float(node.degree[~node.bounded].max()))


def highest_degree(node: Node) -> float:
    """The largest degree of an unbounded unit."""
    return float(torch.where(node.bounded, 0.0, node.degree).max())
