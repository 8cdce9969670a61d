"""Where the documentation of an estimator is: scikit-learn shows the link in notebooks."""

from __future__ import annotations

from typing import ClassVar


class DocumentationLink:
    """Mixin of our estimators, left of `BaseEstimator`: the question mark in their diagram leads to the reference."""

    _doc_link_module: ClassVar[str] = "sklearn_htmc"
    _doc_link_template: ClassVar[str] = (
        "https://sklearn-htmc.github.io/sklearn-htmc/generated/{estimator_module}.{estimator_name}.html"
    )
