"""docs/scaling.md: its examples run and print what it says."""

import pages


def test_examples_run() -> None:
    printed = pages.printed_by("scaling", 4).splitlines()
    assert printed == [
        "(500, 500) True",
        "True",
        "kernel is nngp and was ntk. Choose another store, or remove this one.",
        "500 100 torch.Size([2])",
        "True",
    ]
