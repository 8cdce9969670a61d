"""Sphinx configuration; built with warnings as errors by `make doc`."""

import sklearn_htmc

project = "sklearn-htmc"
author = "sklearn-htmc developers"
project_copyright = f"2026, {author}"
release = version = sklearn_htmc.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "**/GALLERY_HEADER.rst", "auto_examples/*.ipynb"]

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # the types are in the numpydoc sections
numpydoc_show_class_members = False  # api.rst names the members it shows

html_theme = "furo"
html_title = f"sklearn-htmc {release}"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"demo\.py",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
}
