"""The pipeline: lower, quantise, resynthesise, verify, measure; the smallest circuit whose error is allowed wins."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np

from sklearn_htmc._threads import one_blas_thread
from sklearn_htmc.circuit._advice import advice, remedy
from sklearn_htmc.circuit._circuit import OBJECTIVES, Circuit
from sklearn_htmc.circuit._fixed_point import Floats, Format
from sklearn_htmc.circuit._frames import names_of, names_of_fit
from sklearn_htmc.circuit._gates import count_gates
from sklearn_htmc.circuit._given import Asked
from sklearn_htmc.circuit._graph import Graph, verify
from sklearn_htmc.circuit._growing import LITTLE, grown
from sklearn_htmc.circuit._lower._forms import Form
from sklearn_htmc.circuit._resynthesis.refine import Refinement, sample_elsewhere
from sklearn_htmc.circuit._resynthesis.search import PRICES, Found
from sklearn_htmc.circuit._rounding import Rounding, Tries, rounded, unrounded
from sklearn_htmc.circuit._rows import NOTHING_ASKED, Task, without_targets

_METHODS = ("auto", "round", "grow")
# Noise of the circuits where searches start, in units of that of the rounded circuit, for every effort.
_SHARES: tuple[tuple[float, ...], ...] = ((), (1.0,), (1.0, 0.7, 1.3), (1.0, 0.7, 1.3, 0.5, 0.85, 1.15, 1.6))
_THOROUGH = 1_200  # gates up to which the effort is 2 by default, above it is 1
_FEW = 120  # gates of a circuit for which searches start on a ladder that all allowed errors share
_FINEST = 1e-9  # epsilon below which nothing is resynthesised: errors are not far above those of doubles
_MOST = 25_000  # gates above which nothing is resynthesised: one look at all moves would take too long
_LARGER = 2.5  # times the gates of a grown circuit: from a rounded one that is larger still no search starts
_ELSEWHERE = 2_000  # rows on which the error elsewhere is measured
_UNSEEN = 2  # seed of these rows, of which no search knows


def compile_circuit(
    model: Any,
    X: Any,
    *,
    epsilon: float,
    y: Any = None,
    sample_weight: Any = None,
    method: str = "auto",
    effort: int | str = "auto",
    objective: str = "gates",
    input_formats: Mapping[int | str, Format] | None = None,
    output_format: Format | Sequence[Format | None] | None = None,
    saturate_inputs: bool | Sequence[int | str] = True,
    verbose: int = 0,
) -> Circuit:
    """Return a small integer circuit that agrees with a fitted regressor within epsilon.

    Precision goes where the output is sensitive, and weights become few-digit numbers one at a time while the others
    compensate (rounding). Then bits of the circuit become constants or other bits, and terms of its sums go or change,
    where that saves most gates per rise of the error (resynthesis). The finished integer circuit is simulated bit for
    bit: what is promised is a measured error.

    Parameters
    ----------
    model : SparseNetwork, one of our regressors, or a supported fitted scikit-learn regressor
        See `lower` for the families.
    X : array-like of shape (n_samples, n_features)
        Rows on which circuit and model are compared; training rows, as a rule.
    epsilon : float
        Largest root mean square difference between circuit and model on X, as a fraction of the standard deviation of
        y. Positive. Several outputs have it together: squared differences, each in units of the standard deviation of
        its own output, are averaged over rows and outputs. One output may be above epsilon where others are below.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        Targets; only their standard deviation is used. None takes the predictions of the model. Where it is zero, the
        unit is 1.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of the rows in the root mean square and the standard deviation.
    method : {"auto", "round", "grow"}, default="auto"
        Where circuits come from. "round": from the parameters of the model. "grow": from its values on X and on rows
        beside; a sum of bits is grown term by term, as by `sklearn_htmc.CircuitRegressor`, which may be far from the
        model elsewhere: see `error_elsewhere`. "auto": from both; the smallest circuit is returned, and a grown one
        only if it follows the model elsewhere about as well. With ``effort=0``, "auto" is "round".
    effort : {"auto", 0, 1, 2, 3}, default="auto"
        How thoroughly the circuit is resynthesised. 0: rounding alone, the reference for comparisons. 1, 2, 3: the
        best of one, three or seven searches that start from circuits of different coarseness, and for up to 120 gates
        of eight that neighbouring values of epsilon share; more effort never gives more gates. "auto" is 2 for circuits
        of 120 to 1,200 gates and 1 for others. A count of operations, not a clock, bounds every search, so that results
        are repeatable; it is some seconds for 1,000 gates and about a minute for 20,000. Above 25,000 gates and below
        ``epsilon=1e-9`` there is none.
    objective : {"gates", "depth"}, default="gates"
        How the circuit that was found is written in gates. "gates": in the fewest. "depth": on short paths, with
        carry-save sums and adders and comparisons of logarithmic depth where the longest paths need them; the integers
        are the same, `n_gates` and `depth` count what is written, and it is never deeper.
    input_formats : mapping from int or str to Format, default=None
        Formats of some input ports, by number or name of the feature: the words that sensors deliver. What rounding to
        these words does is part of the error, and low bits that the circuit does not need are dropped inside, without a
        gate. The other formats are chosen as coarse as epsilon allows.
    output_format : Format or sequence of (Format or None), default=None
        Formats of the output ports, one for all or one for each; rounding to their codes and saturating at their ends
        is part of the error and of the gates. None leaves the choice.
    saturate_inputs : bool or sequence of (int or str), default=True
        Whether features saturate at the ends of the range that the model has seen, which costs gates: all, none, or
        those listed. Without, the circuit is as specified for codes within that range only. Models that compare
        features with thresholds saturate by themselves.
    verbose : int, default=0
        Whether to show the progress of rounding, growth and resynthesis. Ctrl-C ends the searches; the smallest
        circuit so far is then returned with a warning.

    Returns
    -------
    Circuit
        With ``error <= epsilon``. Its `error_elsewhere` says how far it is from the model on rows that no search has
        seen; resynthesis uses others of that kind to keep it near that of the rounded circuit.

    Raises
    ------
    TypeError
        If the model is of a type that is not supported; the text lists what is.
    ValueError
        If epsilon is not a positive, finite number, method, effort or objective is none of the above, X does not fit
        the model, is a frame with other columns, or holds NaN, if formats are given to features that do not exist, or
        do not hold the values of X or of the predictions, if `predict` of the model is not the function of its
        parameters (that of a subclass, say), or no circuit reaches epsilon; the text says the best error and what can
        be done.
    sklearn.exceptions.NotFittedError
        If the model is not fitted.

    See Also
    --------
    count_gates, simulate, to_verilog, to_c

    Notes
    -----
    All stages are bounded by counts. Rounding makes 7 circuits, up to 40 where none is within epsilon, some more of
    small models; each looks at no more than 20 million pairs of terms for sums that several rows share. Growth goes to
    about 10,000 gates, or ends at 1,000 or more where a large model is far too fine for it. Networks of tens of
    thousands of weights take minutes, most of it for rounding and growth: ``verbose=1`` shows where it is.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.tree import DecisionTreeRegressor
    >>> from sklearn_htmc.circuit import compile_circuit
    >>> X = np.linspace(0.0, 1.0, 50)[:, None]
    >>> tree = DecisionTreeRegressor(max_leaf_nodes=4).fit(X, np.sin(6.0 * X[:, 0]))
    >>> circuit = compile_circuit(tree, X, epsilon=0.05)
    >>> bool(circuit.error <= 0.05)
    True
    """
    way = Way(method, effort, verbose, keep=True, objective=objective)
    asked = Asked(input_formats, output_format, saturate_inputs)
    search = search_circuit(model, X, y, epsilon=epsilon, sample_weight=sample_weight, way=way, asked=asked)
    if search.circuit is None:
        raise no_circuit(epsilon, search)
    for text in search.advice:
        warnings.warn(text, UserWarning, stacklevel=2)
    return search.circuit


@dataclass(frozen=True)
class Way:
    """How to compile.

    Attributes
    ----------
    method, effort, verbose, objective
        As in `compile_circuit`.
    keep : bool
        Whether an interrupt ends the searches only.
    """

    method: str = "auto"
    effort: int | str = "auto"
    verbose: int = 0
    keep: bool = False
    objective: str = "gates"

    def __post_init__(self) -> None:
        """Refuse what is not known."""
        if self.method not in _METHODS:
            raise ValueError(f"method must be one of {', '.join(_METHODS)}, got {self.method!r}.")
        is_level = isinstance(self.effort, Integral) and not isinstance(self.effort, bool)
        if not (is_level and 0 <= int(self.effort) < len(_SHARES)) and self.effort != "auto":
            raise ValueError(f'effort must be "auto" or an integer from 0 to {len(_SHARES) - 1}, got {self.effort!r}.')
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {self.objective!r}.")

    @property
    def rounds(self) -> bool:
        """Whether parameters of the model are rounded."""
        return self.method != "grow"

    @property
    def grows(self) -> bool:
        """Whether circuits are grown on the values of the model."""
        return self.method == "grow" or (self.method == "auto" and self.effort != 0)

    def shares(self, n_gates: float) -> tuple[float, ...]:
        """Return where searches start for a circuit of some gates."""
        if self.effort == "auto":
            return _SHARES[2 if _FEW < n_gates <= _THOROUGH else 1]
        return _SHARES[int(self.effort)]


@dataclass(frozen=True, eq=False)
class Search:
    """What a search for the smallest circuit ended with.

    Attributes
    ----------
    circuit : Circuit or None
        The circuit with the fewest gates whose error is allowed; None if there is none.
    error : float
        Its error, or the least error reached.
    remedy : str
        What can be done where there is none.
    advice : list of str
        What ports say about features that could be smaller.
    """

    circuit: Circuit | None
    error: float
    remedy: str = ""
    advice: list[str] = field(default_factory=list)


def no_circuit(epsilon: float, search: Search) -> ValueError:
    """Return the error of a search that has found nothing."""
    return ValueError(
        f"no circuit within epsilon={epsilon:g} was found; the best error reached is {search.error:.3g}; "
        f"{search.remedy}."
    )


def search_circuit(
    model: Any,
    X: Any,
    y: Any,
    *,
    epsilon: float,
    sample_weight: Any = None,
    to_targets: bool = False,
    way: Way | None = None,
    asked: Asked = NOTHING_ASKED,
) -> Search:
    """Lower a model and look for its smallest circuit within epsilon.

    Parameters
    ----------
    model, X, y, epsilon, sample_weight
        As in `compile_circuit`.
    to_targets : bool, default=False
        Whether the error is that of the circuit to y, instead of that to the model. What the model leaves of epsilon
        is then what rounding may spend, and a model that misses epsilon has no circuit.
    way : Way, default=None
        How to compile; None takes the defaults.
    asked : Asked
        What is asked of the ports.
    """
    way = Way() if way is None else way
    epsilon = _positive(epsilon, "epsilon")
    if to_targets and y is None:
        raise without_targets()
    task = Task.of(model, X, y, sample_weight, asked)
    form, sample = task.form, task.sample
    reference = task.targets if to_targets and task.targets is not None else sample.values
    # The matrices are small: threads cost more than they give, and could change the last bit of a sum.
    with one_blas_thread():
        rounding = _rounding(task, epsilon, reference, way)
        tries = rounding.tries
        if rounding.base <= tries.inner and tries.best_gates and epsilon >= _FINEST:
            _shrink(form, rounding, way)
        if tries.best is None:
            return Search(None, tries.error, remedy(task, rounding))
        n_rows = min(_ELSEWHERE, 2 * len(sample.X))
        elsewhere = sample_elsewhere(sample, form, n_rows, _UNSEEN).error_of(tries.best)
        circuit = task.in_raw_units(tries.best)
        names = names_of_fit(model) or names_of(X)
        circuit = replace(circuit, error_elsewhere=elsewhere, feature_names=names, objective=way.objective)
        verify(circuit)
        return Search(circuit, tries.best.error, advice=advice(task, circuit))


def _rounding(task: Task, epsilon: float, reference: Floats, way: Way) -> Rounding:
    """Round a model if that is asked for."""
    form, sample = task.form, task.sample
    if not way.rounds:
        return unrounded(form, sample, epsilon, reference, ends=task.ends)
    with _progress("rounding", "circuit", way) as say:

        def report(best: Circuit | None, error: float) -> None:
            say(f"error {error:.3g}" + (f", smallest {best.n_gates:,} gates" if best is not None else ""))

        return rounded(form, sample, epsilon, reference, report, task.ends)


def _shrink(form: Form, rounding: Rounding, way: Way) -> None:
    """Search for smaller circuits from several starts, rounded and grown; the best of all is kept with the tries."""
    tries, origin = rounding.tries, rounding.tries.start
    if not way.grows and way.effort == 0:
        return
    refinement = Refinement.of(tries.sample, tries.reference, form, rounding.base)
    follows = partial(refinement.follows, beside=origin, tolerance=tries.tolerance)
    made = _grown(form, tries, follows, way) if way.grows else []
    starts = list(_starts(rounding, made, way))
    for graph in made:
        tries.measure(graph)
    with _progress("resynthesis", "pass", way, len(starts) * len(PRICES)) as say, _interruptible(keep=way.keep):

        def report(found: Found) -> None:
            error, elsewhere = np.sqrt(found.squares)
            say(f"{found.n_gates:,} gates, error {error:.3g}, elsewhere {elsewhere:.3g}")

        for make, allowed in starts:
            start = make()
            beside = start if allowed < tries.tolerance or origin is None else origin
            _keep_smallest(tries, refinement.found(start, beside, min(allowed, tries.inner), report))


def _grown(form: Form, tries: Tries, follows: Callable[[Graph], bool], way: Way) -> list[Graph]:
    """Return circuits grown on the values of a model."""
    with _progress("growth", "level", way) as say:

        def report(n_gates: float, error: float) -> None:
            say(f"error {error:.3g}, about {n_gates:,.0f} gates")

        made = list(grown(form, tries, follows, report))
        if not made and not way.rounds:
            # Where the model is wild between the rows, what was asked for is a circuit that follows it on the rows.
            made = list(grown(form, tries, lambda _: True, report, LITTLE))
        return made


def _starts(rounding: Rounding, made: Sequence[Graph], way: Way) -> Iterator[tuple[Callable[[], Graph], float]]:
    """Yield where searches start, and the errors that are allowed to them.

    Circuits that are larger than others after a search of the same effort are left out.
    """
    tries, make, origin = rounding.tries, rounding.make, rounding.tries.start
    least = min((count_gates(graph) for graph in made), default=math.inf)
    n_gates = tries.best_gates
    if origin is not None and make is not None and n_gates <= min(_MOST, _LARGER * least):
        shares = way.shares(n_gates)
        small = bool(shares) and n_gates <= _FEW
        for share in shares:
            if share != 1.0:
                yield partial(make, share * rounding.good), tries.tolerance
            elif not small:
                yield partial(_itself, origin), tries.tolerance
        if small:
            # The same searches for neighbouring errors, so that their sizes hardly jump.
            for noise in rounding.levels():
                yield partial(make, noise), math.hypot(rounding.base, noise)
    for graph in made if way.effort != 0 else ():
        yield partial(_itself, graph), tries.tolerance


def _itself(graph: Graph) -> Graph:
    return graph


def _keep_smallest(tries: Tries, graphs: Iterator[Graph]) -> None:
    """Measure graphs, the smallest first, until one has an error that is allowed."""
    for graph in graphs:
        error = tries.measure(graph)
        if error is not None and error <= tries.tolerance:
            break


@contextmanager
def _interruptible(*, keep: bool) -> Iterator[None]:
    """Let an interrupt end what is inside, with a warning, if the best so far is to be kept."""
    try:
        yield
    except KeyboardInterrupt:
        if not keep:
            raise
        warnings.warn("interrupted: the circuit is the smallest one found so far.", UserWarning, stacklevel=4)


@contextmanager
def _progress(stage: str, unit: str, way: Way, total: int | None = None) -> Iterator[Callable[[str], None]]:
    """Show a bar for a stage if asked for; yield what moves it on and says something."""
    if not way.verbose:
        yield lambda _: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=stage, unit=unit) as bar:

        def say(text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update()

        yield say


def _positive(value: Any, name: str) -> float:
    """Return a positive number or raise ValueError."""
    is_number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    if not is_number or not 0 < float(value) < math.inf:
        raise ValueError(f"{name} must be a positive, finite number, got {value!r}.")
    return float(value)
