"""A network drawn: a box for each layer, from the input above to the output below, as SVG."""

from __future__ import annotations

import html

import keras

WIDTH, HEIGHT, ACROSS, DOWN = 190, 34, 20, 26


def draw(model: keras.Model) -> str:
    """The text of an SVG picture of a functional model: layers, shapes and what reads what."""
    before = {
        operation: [
            tensor._keras_history.operation for node in _nodes(operation) for tensor in node
        ]
        for operation in model.operations
    }
    rows: dict[int, list] = {}
    row_of: dict = {}
    for operation in model.operations:  # every operation comes after what it reads
        row_of[operation] = 1 + max((row_of[other] for other in before[operation]), default=-1)
        rows.setdefault(row_of[operation], []).append(operation)
    broadest = max(map(len, rows.values()))
    full = broadest * (WIDTH + ACROSS)
    place = {
        operation: (
            full / 2 + (column - len(row) / 2) * (WIDTH + ACROSS) + ACROSS / 2,
            number * (HEIGHT + DOWN) + DOWN / 2,
        )
        for number, row in rows.items()
        for column, operation in enumerate(row)
    }
    lines = [_line(place[other], place[one]) for one in before for other in before[one]]
    boxes = [_box(operation, *place[operation]) for operation in model.operations]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{full}" '
            f'height="{len(rows) * (HEIGHT + DOWN)}" font-family="sans-serif" font-size="10" '
            'text-anchor="middle">',
            f"<title>{html.escape(model.name)}</title>",
            '<rect width="100%" height="100%" fill="white"/>',
            *lines,
            *boxes,
            "</svg>\n",
        ]
    )


def _nodes(operation) -> list[list]:
    """The tensors that the operation reads, once for each call of it."""
    return [node.input_tensors for node in operation._inbound_nodes]


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = start, end
    middle = WIDTH / 2
    return (
        f'<line x1="{x1 + middle}" y1="{y1 + HEIGHT}" x2="{x2 + middle}" y2="{y2}" '
        'stroke="#999999"/>'
    )


def _box(operation, x: float, y: float) -> str:
    owns = bool(getattr(operation, "weights", ()))
    shapes = [str(tuple(tensor.shape[1:])) for tensor in keras.tree.flatten(operation.output)]
    text = f"{type(operation).__name__} {', '.join(shapes)}"
    middle = x + WIDTH / 2
    return (
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="4" stroke="#336699" '
        f'fill="{"#d6e6f5" if owns else "#f5f5f5"}"/>'
        f'<text x="{middle}" y="{y + 14}">{html.escape(operation.name)}</text>'
        f'<text x="{middle}" y="{y + 27}" fill="#555555">{html.escape(text)}</text>'
    )
