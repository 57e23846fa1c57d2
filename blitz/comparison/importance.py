"""How much each parameter decided whether a run was among the best, by Optuna (extra `search`)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from blitz.figures.space import PlotRow, Space, is_logarithmic

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

TOP = 0.25  # the share of the runs that counts as the best
LEAST_RUNS = 12
ALL_ARE_BEST = "Target and region quantiles select the same set"  # begins a warning of Optuna's
EXPLAINED = (
    "How much each parameter decided whether a run is among the best quarter (PED-ANOVA, arXiv:2304.10255, by Optuna). "
    "The shares sum to 100 % even where nothing matters; parameters that were varied together share what they decide."
)


def importances(space: Space, more_is_better: bool) -> tuple[dict[str, float], str]:
    """Shares by dotted key, the largest first, and what they mean; none, and why."""
    distributions = {key: found for key in space.keys if (found := _values(space, key))}
    runs = [(row, value) for row in space.measured() for value in (row.estimate.values if row.estimate else ())]
    if len(distributions) < 2:
        return {}, "Needs two parameters that all runs have and that were varied."
    if len(runs) < LEAST_RUNS:
        return {}, f"Needs {LEAST_RUNS} finished runs; there are {len(runs)}."
    if find_spec("optuna") is None:
        return {}, "Needs Optuna: pip install 'blitz[search]'."
    shares = _by_optuna(runs, distributions, more_is_better)
    return (shares, EXPLAINED) if shares else ({}, "The best quarter of the runs is no better than the others.")


def _values(space: Space, key: str) -> list[float] | list[str]:
    """The values that differ; none for a key that not all runs have: it decides nothing about those without it."""
    found = {row.values[key] for row in space.measured()}
    if len(found) < 2 or None in found:
        return []
    return sorted(value for value in found if isinstance(value, float)) or sorted(map(str, found))


def _by_optuna(
    runs: Sequence[tuple[PlotRow, float]], values: dict[str, list[float] | list[str]], more_is_better: bool
) -> dict[str, float]:
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    def distribution(values: list[float] | list[str]) -> BaseDistribution:
        numbers = [value for value in values if isinstance(value, float)]
        if not numbers:
            return optuna.distributions.CategoricalDistribution(values)
        return optuna.distributions.FloatDistribution(numbers[0], numbers[-1], log=is_logarithmic(numbers))

    distributions = {key: distribution(found) for key, found in values.items()}
    trials = []
    for row, value in runs:
        params = {key: row.values[key] for key in distributions}
        trials.append(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize" if more_is_better else "minimize")
        study.add_trials(trials)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ALL_ARE_BEST, UserWarning)
            found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=TOP))
    except UserWarning:
        return {}
    finally:
        optuna.logging.set_verbosity(verbosity)
    return {key: float(share) for key, share in found.items()}
