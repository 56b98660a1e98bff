"""Types and shapes are checked in every test, as they are written in the annotations.

beartype checks every function. Where shapes are written, jaxtyping checks them as well, which more
than doubles what a test of the kernels takes, so it is left out elsewhere (a module that uses an
alias of a shape imports jaxtyping as well); it also copes with names that are imported for type
checkers only. Both must be there before the package is imported, which
is why they stand here.
"""

from pathlib import Path

from beartype import BeartypeConf
from beartype.claw import beartype_package
from jaxtyping import install_import_hook

SOURCES = Path(__file__).parent / "src"


def modules_for_jaxtyping() -> tuple[str, ...]:
    """The modules of farfield with shapes, or with names that do not exist at run time."""
    found = []
    for path in sorted(SOURCES.rglob("*.py")):
        text = path.read_text("utf-8")
        if "from jaxtyping import" in text or "if TYPE_CHECKING" in text:
            found.append(".".join(path.relative_to(SOURCES).with_suffix("").parts))
    return tuple(found)


install_import_hook(list(modules_for_jaxtyping()), "beartype.beartype")
beartype_package(
    "farfield",
    conf=BeartypeConf(claw_is_pep526=False, claw_skip_package_names=modules_for_jaxtyping()),
)
