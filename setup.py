"""What pyproject.toml cannot say: `suites/` lies beside the package in a checkout, and inside it once installed."""

from setuptools import find_namespace_packages, find_packages, setup

SUITES = "cl_semisup.suites"

setup(
    packages=[
        *find_packages(include=["cl_semisup", "cl_semisup.*"]),
        SUITES,
        *(f"{SUITES}.{folder}" for folder in find_namespace_packages("suites")),
    ],
    package_dir={SUITES: "suites"},
)
