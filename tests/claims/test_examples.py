"""The example in the docstring of every public name runs and gives what it says."""

import doctest

import numpy as np
import pytest
import tensorflow as tf

import oneshot_tf as ost


@pytest.mark.parametrize("name", ost.__all__)
def test_the_example_runs(name, digits, tmp_path):
    documented = getattr(ost, name)
    names = {n: getattr(ost, n) for n in ost.__all__}
    names |= {"np": np, "tf": tf, "digits": digits, "folder": tmp_path}
    examples = doctest.DocTestParser().get_doctest(documented.__doc__, names, name, None, None)
    assert examples.examples, f"{name} has no example"
    said = []
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    runner = doctest.DocTestRunner(optionflags=flags, verbose=False)
    runner.run(examples, out=said.append, clear_globs=False)
    assert not runner.failures, "".join(said)
