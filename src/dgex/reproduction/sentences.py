"""What a reproduction found, in plain words."""

from __future__ import annotations

from typing import Any

from dgex.errors import DataError
from dgex.evaluation.metrics import improvement
from dgex.evaluation.verdict import count
from dgex.reproduction.grid import BASELINES, Point
from dgex.reproduction.paper import MICROARRAYS, RNASEQ, paper_number
from dgex.reproduction.tables import Results, paper_table_of

_BEST_OF_PAPER = {
    MICROARRAYS: Point("dgex", 3, 9000, 0.1),
    RNASEQ: Point("dgex", 2, 9000, 0.25),
}
"""The nets that the paper compares with LR."""


def net_text(point: Point) -> str:
    """A net in words.

    Examples
    --------
    >>> net_text(Point("dgex", 3, 9000, 0.1))
    '3 × 9000, dropout 10 %'
    """
    return f"{point.hidden_layers} × {point.hidden_units}, dropout {100 * (point.dropout or 0):g} %"


def finding(results: Results, set_name: str) -> str:
    """How the chosen net compares with LR on a set, what the paper found, and who was better."""
    ols = _ols(results, set_name)
    counts = f"{count(ols['n_profiles'], 'profile')}, {count(ols['n_targets'], 'target')}"
    where = f"On {set_name} ({counts})"
    chosen = results.chosen_net(set_name)
    net = results.score(chosen, set_name) if chosen else None
    if chosen is None or net is None:
        return f"{where} LR has MAE {ols['mae']:.4f}; no net was trained."
    text = (
        f"{where} the net chosen on {results.chooser(set_name)} ({net_text(chosen)}) has MAE "
        f"{net['mae']:.4f}, {_compared(net['mae'], ols['mae'])} than LR ({ols['mae']:.4f}), and a "
        f"lower one for {net['genes_won_over_ols_percent']:.2f} % of the targets."
    )
    baselines = {name: results.score(Point(kind), set_name) for kind, name in BASELINES.items()}
    errors = {name: scores["mae"] for name, scores in baselines.items() if scores is not None}
    best = min(errors, key=errors.__getitem__)
    if best != BASELINES["ols"] and errors[best] < net["mae"]:
        text += f" {best} is better than that net: {errors[best]:.4f}."
    return text + _paper_text(paper_table_of(set_name))


def same_gene_text(results: Results, set_name: str) -> str:
    """The scores with and without the targets that are the same gene as a landmark."""
    ols = _ols(results, set_name)
    start = (
        f"Of the {count(ols['n_targets'], 'target')} scored on {set_name}, {ols['n_same_gene']:,} "
        "have the gene of a landmark (445 in the paper's own maps)."
    )
    if ols["n_same_gene"] == 0:
        return start
    text = f"{start} LR has {ols['mae']:.4f} with them and {ols['mae_other_genes']:.4f} without"
    chosen = results.chosen_net(set_name)
    net = results.score(chosen, set_name) if chosen else None
    if net is None:
        return f"{text}."
    return (
        f"{text}, the chosen net {net['mae']:.4f} and {net['mae_other_genes']:.4f} (without them "
        f"{_compared(net['mae_other_genes'], ols['mae_other_genes'])} than LR)."
    )


def _ols(results: Results, set_name: str) -> dict[str, Any]:
    scores = results.score(Point("ols"), set_name)
    if scores is None:
        raise DataError(f"There are no scores of OLS on {set_name}. Run dgex reproduce again.")
    return scores


def _paper_text(table: str | None) -> str:
    if table is None:
        return ""
    point = _BEST_OF_PAPER[table]
    numbers = {
        name: paper_number(table, point, name)
        for name in ("improvement_over_ols_percent", "genes_won_over_ols_percent")
    }
    lower, won = (f"{number[0]:g} %" for number in numbers.values() if number is not None)
    what = {MICROARRAYS: "its test microarrays", RNASEQ: "GTEx"}[table]
    return (
        f" The paper, on {what}: {net_text(point)}, {lower} lower than LR, lower for {won} of the "
        "targets."
    )


def _compared(mae: float, reference: float) -> str:
    percent = improvement(mae, reference)
    return f"{abs(percent):.2f} % {'lower' if percent >= 0 else 'higher'}"
