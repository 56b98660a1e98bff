"""Types and shapes are checked in every test, as they are written in the annotations.

beartype checks every function. Where shapes are written, jaxtyping checks them as well; it takes
ten times as long for a call, so it is left out elsewhere. Both must be there before the package is
imported, which is why they stand here.
"""

from pathlib import Path

from beartype import BeartypeConf
from beartype.claw import beartype_package
from jaxtyping import install_import_hook

SOURCES = Path(__file__).parent / "src"


def modules_with_shapes() -> list[str]:
    """The modules of farfield that import jaxtyping."""
    found = [
        path for path in SOURCES.rglob("*.py") if "jaxtyping import" in path.read_text("utf-8")
    ]
    return sorted(".".join(path.relative_to(SOURCES).with_suffix("").parts) for path in found)


install_import_hook(modules_with_shapes(), "beartype.beartype")
beartype_package(
    "farfield",
    conf=BeartypeConf(claw_is_pep526=False, claw_skip_package_names=tuple(modules_with_shapes())),
)
