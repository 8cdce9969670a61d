"""CircuitProfileDisplay: gates against accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from sklearn_htmc.circuit import CircuitProfile, circuit_profile
from sklearn_htmc.inspection._axes import axes_of, log_axis, require_matplotlib, with_defaults

_MARKERS = "os^Dv<>P*X"


class CircuitProfileDisplay:
    """Gates of circuits against epsilon, with the power law that goes with gamma.

    It is recommended to use `from_profile` or `from_estimator`. All parameters are attributes.

    Parameters
    ----------
    profiles : dict of str to CircuitProfile
        Profiles by the names of their models; a name may be empty.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        Where it is drawn.
    lines_ : list of matplotlib Line2D
        The sizes, a line for each profile.
    fits_ : list of matplotlib Line2D or None
        The power laws ``n_gates = constant * epsilon ** -gamma``, by least squares of logarithms; None for a profile
        with fewer than two circuits with gates.

    See Also
    --------
    sklearn_htmc.circuit.circuit_profile : Computes a profile.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_htmc.circuit import CircuitProfile
    >>> from sklearn_htmc.inspection import CircuitProfileDisplay
    >>> profile = CircuitProfile(np.array([0.5, 0.25, 0.125]), np.array([10, 20, 40]))
    >>> display = CircuitProfileDisplay.from_profile({"a line": profile})
    >>> display.lines_[0].get_label()
    'a line: gamma = 1.00'
    """

    ax_: Any
    figure_: Any
    lines_: list[Any]
    fits_: list[Any]

    def __init__(self, *, profiles: Mapping[str, CircuitProfile]) -> None:
        self.profiles = profiles

    @classmethod
    def from_profile(
        cls, profile: CircuitProfile | Mapping[str, CircuitProfile], *, ax: Any = None, **kwargs: Any
    ) -> Self:
        """Draw profiles.

        Parameters
        ----------
        profile : CircuitProfile or dict of str to CircuitProfile
            One profile, or several by name.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure.
        **kwargs : dict
            See `plot`.

        Returns
        -------
        CircuitProfileDisplay
            With the artists.
        """
        profiles = {"": profile} if isinstance(profile, CircuitProfile) else dict(profile)
        return cls(profiles=profiles).plot(ax=ax, **kwargs)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        epsilons: Any = None,
        *,
        y: Any = None,
        sample_weight: Any = None,
        effort: int | str = "auto",
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Compile a fitted regressor at several accuracies, and draw the sizes.

        Parameters
        ----------
        estimator : object
            Fitted regressor; see `sklearn_htmc.circuit.lower`.
        X : array-like of shape (n_samples, n_features)
            Rows on which circuits and model are compared.
        epsilons, y, sample_weight, effort : object
            See `sklearn_htmc.circuit.circuit_profile`.
        name : str, default=None
            Name in the legend; None takes that of the class.
        ax : matplotlib Axes, default=None
            Where to draw, beside others perhaps; None makes a new figure.
        **kwargs : dict
            See `plot`.

        Returns
        -------
        CircuitProfileDisplay
            With the artists.

        Raises
        ------
        ImportError
            If there is no matplotlib.
        """
        require_matplotlib(f"{cls.__name__}.from_estimator")
        profile = circuit_profile(estimator, X, epsilons, y=y, sample_weight=sample_weight, effort=effort)
        return cls(profiles={type(estimator).__name__ if name is None else name: profile}).plot(ax=ax, **kwargs)

    def plot(
        self, ax: Any = None, *, line_kw: Mapping[str, Any] | None = None, fit_kw: Mapping[str, Any] | None = None
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a new figure. Profiles that are there already stay.
        line_kw, fit_kw : dict, default=None
            Keywords for ``plot`` of all sizes and of all power laws.

        Returns
        -------
        CircuitProfileDisplay
            With the artists as attributes.
        """
        self.ax_ = axes_of(ax, f"{type(self).__name__}.plot")
        self.figure_ = self.ax_.figure
        self.lines_, self.fits_ = [], []
        n_before = sum(line.get_linestyle() == "None" for line in self.ax_.lines)
        for number, (name, profile) in enumerate(self.profiles.items(), start=n_before):
            used = profile.n_gates > 0
            label = f"{name}: gamma = {profile.gamma:.2f}" if name else f"gamma = {profile.gamma:.2f}"
            marker = _MARKERS[number % len(_MARKERS)]
            style = {"linestyle": "none", "marker": marker, "markersize": 5, "label": label}
            options = with_defaults(line_kw, **style)
            (line,) = self.ax_.plot(profile.epsilons[used], profile.n_gates[used], **options)
            self.lines_.append(line)
            self.fits_.append(self._fit(profile, with_defaults(fit_kw, color=line.get_color(), linewidth=1)))
        log_axis(self.ax_, "x")
        log_axis(self.ax_, "y")
        self.ax_.set(xlabel="epsilon", ylabel="gates")
        if not self.ax_.xaxis_inverted():
            self.ax_.invert_xaxis()  # the accuracy grows to the right
        self.ax_.legend(fontsize="small")
        return self

    def _fit(self, profile: CircuitProfile, options: dict[str, Any]) -> Any:
        used = profile.n_gates > 0
        if used.sum() < 2:
            return None
        epsilons = profile.epsilons[used]
        level = np.mean(np.log(profile.n_gates[used]) + profile.gamma * np.log(epsilons))
        (line,) = self.ax_.plot(epsilons, np.exp(level - profile.gamma * np.log(epsilons)), **options)
        return line
