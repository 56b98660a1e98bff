"""docs/diagnose.md: its examples run, and its table of formulas is what they print."""

import re

import pages


def test_examples_run_and_the_table_is_what_they_print() -> None:
    printed = pages.printed_by("diagnose", 5)
    assert "nan" not in printed
    assert "Kernel random at initialisation" in printed
    rows = re.findall(r"^\| ([\d.]+) \| [a-z ]+ \| (.*?) \|$", pages.text("diagnose"), re.M)
    assert len(rows) == 3
    for weight_var, cells in rows:
        assert f"{weight_var} [{cells.replace(' | ', ', ')}]" in printed
    assert "relu 0.0 2.0" in printed
    assert "tanh 0.05 1.761" in printed
