"""RulesDisplay: the rules of a circuit as bars, with what they say."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, Self

from sklearn.utils.validation import check_is_fitted

from sklearn_htmc.circuit._rules import Rule, Rules
from sklearn_htmc.inspection._axes import NEGATIVE, POSITIVE, axes_of, require_matplotlib, with_defaults

_WIDTH, _LINES = 56, 2  # of a condition


class RulesDisplay:
    """The rules of a circuit: weights as bars, conditions beside them, with their shares of the rows and their gates.

    It is recommended to use `from_estimator` or `from_rules`. All parameters are attributes.

    Parameters
    ----------
    rules : Rules
        All rules.
    n_rules : int, default=15
        Rules that are drawn at most, those first that move the output most.
    target : int, default=0
        Number of the output.
    target_name : str, default="y"
        Its name.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        Where it is drawn.
    bars_ : matplotlib BarContainer
        The weights, the first rule on top.
    texts_ : list of matplotlib Annotation
        Shares and gates.

    See Also
    --------
    sklearn_htmc.CircuitRegressor : Has `rules_`, which can be printed.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_htmc import CircuitRegressor
    >>> from sklearn_htmc.inspection import RulesDisplay
    >>> X = np.random.default_rng(0).integers(0, 10, size=(200, 2)).astype(float)
    >>> model = CircuitRegressor(alpha=0.01, augment=False).fit(X, np.where(X[:, 0] > 5, 8.0, 0.0))
    >>> display = RulesDisplay.from_estimator(model)
    >>> len(display.bars_) == len(model.rules_)
    True
    """

    ax_: Any
    figure_: Any
    bars_: Any
    texts_: list[Any]

    def __init__(self, *, rules: Rules, n_rules: int = 15, target: int = 0, target_name: str = "y") -> None:
        self.rules = rules
        self.n_rules = n_rules
        self.target = target
        self.target_name = target_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        n_rules: int = 15,
        target: int = 0,
        target_name: str = "y",
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the rules of a fitted regressor.

        Parameters
        ----------
        estimator : CircuitRegressor
            Fitted.
        n_rules : int, default=15
            Rules that are drawn at most.
        target : int, default=0
            Number of the output.
        target_name : str, default="y"
            Its name.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure, large enough for the rules.
        **kwargs : dict
            See `plot`.

        Returns
        -------
        RulesDisplay
            With the artists.

        Raises
        ------
        TypeError
            If the estimator has no rules.
        ValueError
            If there is no such output, or `n_rules` is not positive.
        ImportError
            If there is no matplotlib.
        """
        require_matplotlib(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        rules = getattr(estimator, "rules_", None)
        if not isinstance(rules, Rules):
            raise TypeError(
                f"the estimator must be a CircuitRegressor, got a {type(estimator).__name__}; NetworkDisplay and "
                "network_text show networks."
            )
        return cls.from_rules(rules, n_rules=n_rules, target=target, target_name=target_name, ax=ax, **kwargs)

    @classmethod
    def from_rules(
        cls,
        rules: Rules,
        *,
        n_rules: int = 15,
        target: int = 0,
        target_name: str = "y",
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw rules.

        Parameters
        ----------
        rules : Rules
            `rules_` of a `CircuitRegressor`.
        n_rules, target, target_name, ax, **kwargs : object
            See `from_estimator`.

        Returns
        -------
        RulesDisplay
            With the artists.

        Raises
        ------
        ValueError
            If there is no such output, or `n_rules` is not positive.
        """
        if not 0 <= target < len(rules.constants):
            raise ValueError(f"target must be the number of an output, below {len(rules.constants)}, got {target!r}.")
        if n_rules < 1:
            raise ValueError(f"n_rules must be positive, got {n_rules!r}.")
        display = cls(rules=rules, n_rules=n_rules, target=target, target_name=target_name)
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, *, bar_kw: Mapping[str, Any] | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure, large enough for the rules.
        bar_kw : dict, default=None
            Keywords for ``barh``.

        Returns
        -------
        RulesDisplay
            With the artists as attributes.
        """
        of_target = [rule for rule in self.rules if rule.output == self.target]
        shown = of_target[: self.n_rules]
        self.ax_ = axes_of(ax, f"{type(self).__name__}.plot", (8.0, 1.3 + 0.38 * max(len(shown), 1)))
        self.figure_ = self.ax_.figure
        weights = [rule.weight for rule in shown]
        colors = [POSITIVE if weight > 0 else NEGATIVE for weight in weights]
        places = range(len(shown))
        self.bars_ = self.ax_.barh(places, weights, **with_defaults(bar_kw, color=colors, height=0.6))
        self.ax_.set_yticks(places, [_short(rule.condition) for rule in shown], fontsize="small")
        self.ax_.invert_yaxis()
        self.ax_.axvline(0.0, color="0.3", linewidth=0.8)
        self.texts_ = [
            self.ax_.annotate(
                f"{_share(rule)}, {rule.gates} gate{'' if rule.gates == 1 else 's'}",
                (1.0, place),
                xycoords=("axes fraction", "data"),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize="small",
                annotation_clip=False,
            )
            for place, rule in enumerate(shown)
        ]
        more = f" ({len(of_target) - len(shown)} more rules)" if len(of_target) > len(shown) else ""
        self.ax_.set_xlabel("weight where the condition holds" + more)
        constant = f"{self.rules.constants[self.target]:.4g}"
        self.ax_.set_title(f"{self.target_name} = {constant} + the weights of all rules that hold", fontsize="medium")
        return self


def _share(rule: Rule) -> str:
    """Return the share of the rows on which a condition holds; of a word it is the mean."""
    return f"{rule.share:.0%} of rows" if 0.0 <= rule.share <= 1.0 else f"mean {rule.share:.3g}"


def _short(condition: str) -> str:
    """Return a condition in a few lines."""
    return "\n".join(textwrap.wrap(condition, _WIDTH, max_lines=_LINES, placeholder=" ..."))
