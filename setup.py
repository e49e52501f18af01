"""Builds the native kernel of the checkers where there is a compiler; everything else is in pyproject.toml.

The kernel is optional: without it the same algorithm runs in Python, and ``nemesis doctor`` says which does.
It uses the stable ABI, so one build serves every Python from 3.11 on.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "harness.checkers._linearize",
            ["harness/checkers/_linearize.c"],
            extra_compile_args=["-O3", "-pthread"],
            extra_link_args=["-pthread"],
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
