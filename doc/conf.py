"""Sphinx configuration; built with warnings as errors by `make doc`."""

import inspect
import sys
from functools import cached_property
from importlib import import_module
from pathlib import Path

import sklearn_htmc

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "sklearn-htmc"
author = "sklearn-htmc developers"
project_copyright = f"2026, {author}"
release = version = sklearn_htmc.__version__

extensions = [
    "formulas",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**/GALLERY_HEADER.rst", "auto_examples/*.ipynb"]

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # the types are in the numpydoc sections
numpydoc_show_class_members = False  # _templates/autosummary/class.rst shows them


def is_property(module: str, class_name: str, name: str) -> bool:
    """Tell properties from fields and fitted attributes, which the docstring of their class describes."""
    member = inspect.getattr_static(getattr(import_module(module), class_name), name, None)
    return isinstance(member, property | cached_property)


autosummary_context = {"is_property": is_property}  # for _templates/autosummary/class.rst
suppress_warnings = ["config.cache"]  # of which it complains: functions cannot be pickled

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_math_renderer = "svg"
html_title = f"sklearn-htmc {release}"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"(demo|to_hardware)\.py",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "capture_repr": ("_repr_html_",),  # tables, but not what a call of matplotlib returns
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,  # a page that loads scripts from the network
}
