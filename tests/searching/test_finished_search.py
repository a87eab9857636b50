"""A search that has nothing to do: it builds, loads and writes nothing, and mixes nothing."""

import dataclasses
import os

import pytest
from candidate_runs import begin, candidates, earlier, note_search

import oneshot_tf as ost
from oneshot_tf import search, settings
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidates import ranked
from oneshot_tf.runs.search_record import made_with, note_cost
from oneshot_tf.strategies import RandomSearchSettings
from oneshot_tf.system.json_files import read_json

COUNT = 12


def start(directory, skip_twins=True, **options):
    """Starts the program in this process; there is neither a checkpoint nor a data set."""
    search.main(
        settings.RunSettings(str(directory.path)),
        search.SearchSettings(num_candidates=COUNT, **options),
        RandomSearchSettings(skip_twins=skip_twins),
        settings.LocationSettings(data_dir="/nowhere"),
        settings.DistributionSettings(),
    )


@pytest.fixture
def finished(tmp_path, space):
    directory = begin(tmp_path / "run", space)
    CandidateFile(directory).write(ranked(candidates(space, COUNT)))
    note_search(
        directory, **made_with(search.SearchSettings(), RandomSearchSettings(), 6), num_images=400
    )
    note_cost(directory, CandidateFile(directory).read())
    return directory


def state(directory):
    return {path.name: (path.read_bytes(), os.stat(path).st_mtime_ns, os.stat(path).st_ino)
            for path in directory.path.iterdir()}  # fmt: skip


def test_nothing_is_built_or_written(finished, capsys):
    before = state(finished)
    start(finished)
    assert state(finished) == before
    said = capsys.readouterr().out
    assert f"{COUNT} candidates are in" in said and said.count(" | ") == 10 * 3


@pytest.mark.parametrize("kind", ["no ranks", "gaps", "another order", "half a line"])
def test_the_file_is_written_if_its_ranks_are_not_right_yet(finished, space, kind):
    file = CandidateFile(finished)
    right, rows = file.path.read_bytes(), file.read()
    if kind == "no ranks":
        file.write(dataclasses.replace(c, rank=0) for c in rows)
    elif kind == "gaps":
        file.write(dataclasses.replace(c, rank=2 * c.rank) for c in rows)
    elif kind == "another order":
        file.write(rows[::-1])
    else:
        file.path.write_bytes(right + b",0.5")
    start(finished)
    assert file.path.read_bytes() == right


def test_a_finished_race_and_a_search_by_divergence_build_nothing(finished, space):
    """Also where --finalists are more than there are candidates."""
    for options in ({"budget": "race"}, {"rank_by": "kl", "finalists": 100}):
        settings_now = search.SearchSettings(**options)
        note_search(finished, **made_with(settings_now, RandomSearchSettings(), 6), num_images=400)
        note_cost(finished, CandidateFile(finished).read())
        before = state(finished)
        start(finished, **options)
        assert state(finished) == before


def test_a_search_that_was_killed_at_its_very_end_notes_its_cost(finished):
    """Its candidates are ranked, but search.json lacks what they cost."""
    right = read_json(finished.path / "search.json")
    assert right["image_evaluations"] == COUNT * 400
    costs = ("image_evaluations", "training_images", "multiply_adds_spent", "checksum")
    note_search(finished, **{k: v for k, v in right.items() if k not in (*costs, "run_id")})
    start(finished)
    assert read_json(finished.path / "search.json") == right


def test_other_settings_are_refused(finished):
    with pytest.raises(ost.InputError, match="began with --seed=0; now --seed=1. Give --seed=0"):
        start(finished, seed=1)
    with pytest.raises(ost.InputError, match="skip_twins=True"):
        start(finished, skip_twins=False)


@pytest.mark.parametrize("old", [False, True])
def test_candidates_without_search_json_are_refused(finished, old):
    """Whatever --seed says: nobody knows that of the candidates that are there."""
    if old:
        CandidateFile(earlier(finished)).path.unlink()
        CandidateFile(finished).write(ranked(candidates(ost.bender2018(), COUNT)))
    (finished.path / "search.json").unlink()
    before = state(finished)
    for seed in (0, 1):
        with pytest.raises(ost.InputError, match="search.json is missing.*Restore it, or move"):
            start(finished, seed=seed)
    assert state(finished) == before


def test_candidates_of_another_run_are_refused(finished, tmp_path, space):
    other = begin(tmp_path / "other", space)
    other_file = CandidateFile(other)
    other_file.path.write_bytes(CandidateFile(finished).path.read_bytes())
    note_search(
        other, **made_with(search.SearchSettings(), RandomSearchSettings(), 6), num_images=400
    )
    before = state(other)
    with pytest.raises(ost.InputError, match="line 2 belongs to the run .*; this is the run"):
        start(other)
    (other.path / "search.json").write_bytes((finished.path / "search.json").read_bytes())
    with pytest.raises(ost.InputError, match="belongs to "):
        start(other)
    after = state(other)
    assert {n: v for n, v in after.items() if n != "search.json"} == {
        n: v for n, v in before.items() if n != "search.json"
    }
