"""candidates.csv: what is written is read, and nothing else is."""

import csv
import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
from candidate_runs import begin, candidates, earlier, note_search

import oneshot_tf as ost
from oneshot_tf.runs.candidate_file import CandidateFile
from oneshot_tf.runs.candidate_table import COLUMNS
from oneshot_tf.runs.candidates import ranked
from oneshot_tf.space.reading import Reader

NOT_MEASURED = {"candidate_accuracy": None, "cross_entropy": None, "num_images": 0}


@pytest.fixture
def file(space, tmp_path):
    return CandidateFile(begin(tmp_path / "run", space))


def test_what_is_written_is_read(space, file):
    rows = candidates(space)
    file.write(rows[:30])
    for row in rows[30:]:
        file.append(row)
    assert file.read() == rows
    file.write(ranked(rows))
    assert [c.rank for c in file.read()] == list(range(1, 51))
    accuracies = [c.candidate_accuracy for c in file.read()]
    assert accuracies == sorted(accuracies, reverse=True)


def test_half_a_last_line_is_dropped(space, file, capsys):
    rows = candidates(space, 5)
    file.write(rows)
    text = file.path.read_text()
    for cut in range(1, 60, 7):
        file.path.write_text(text[:-cut])
        assert file.read() == rows[:4]
    assert "the last line is incomplete" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    ["1,2,3", ",x,1.0,400,,10,10,prev1:sep3x3,RUN", "a,b,c,d,e,f,g,h,RUN", '"',
     ",0.5,1.0,400,,10,10,prev1:max3x3,RUN", ",0.5,1.0,400,,10,10,'; import os,RUN",
     ",0.5,1.0,4" + "0" * 400 + ",,10,10,prev1:max3x3,RUN", ",0.5,1.0,400,nan,1,1,prev1:x,RUN"],
)  # fmt: skip
def test_a_damaged_line_is_named(space, file, line):
    file.write(candidates(space, 3))
    with open(file.path, "a") as out:
        out.write(line.replace("RUN", file.directory.run_id()[:8]) + "\n")
    with pytest.raises(ost.InputError, match="line 5.* Remove this line") as error:
        file.read()
    assert "\n" not in str(error.value)


def test_a_file_without_lines_has_no_candidates(file):
    assert file.read() == []
    for text in ("", ",".join([*COLUMNS, "run"]) + "\n", "rank,candidate_acc"):
        file.path.write_text(text)
        assert file.read() == []


@pytest.mark.parametrize("text", ["\0" * 100, "half a header", "rank,other"])
def test_what_does_not_begin_as_the_file_does_is_refused(file, text):
    file.path.write_text(text)
    with pytest.raises(ost.InputError, match="must have the columns rank, "):
        file.read()


def test_other_columns_are_refused(file):
    file.path.write_text("accuracy,architecture\n0.5,prev1:sep3x3\n")
    with pytest.raises(ost.InputError, match="must have the columns rank, "):
        file.read()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_written(space, file, value):
    rows = candidates(space, 3)
    file.write(rows)
    bad = dataclasses.replace(candidates(space, 4)[3], cross_entropy=value)
    for write in (lambda: file.append(bad), lambda: file.write([*rows, bad])):
        with pytest.raises(ost.InputError, match="`cross_entropy` must be a finite number"):
            write()
    assert file.read() == rows


def edit(file, line, **values):
    """Changes fields of a line of the file, by its number."""
    with open(file.path, newline="") as lines:
        rows = list(csv.reader(lines))
    for name, value in values.items():
        rows[line - 1][rows[0].index(name)] = str(value)
    with open(file.path, "w", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows(rows)


@pytest.mark.parametrize(
    "values, words",
    [({"candidate_accuracy": 0.99875}, "`candidate_accuracy` must be a multiple of 1/400.*0.99875"),
     ({"candidate_accuracy": 1.0025}, "`candidate_accuracy` must be at most 1; got 1.0025"),
     ({"candidate_accuracy": ""}, "`candidate_accuracy` must be a finite number"),
     ({"candidate_accuracy": "nan"}, "`candidate_accuracy` must be a number; got 'nan'"),
     ({"cross_entropy": "inf"}, "`cross_entropy` must be a finite number of at least 0.*got inf"),
     ({"cross_entropy": -0.5}, "`cross_entropy` must be a finite number of at least 0"),
     ({"divergence": "-inf"}, "`divergence` must be finite"),
     ({"num_images": 4000}, "`num_images` must be 400, because .* 400 validation images; got 4000"),
     ({"num_images": -1}, "`num_images` must be at least 0; got -1"),
     ({"num_images": 0}, "`candidate_accuracy` must be empty, because `num_images` is 0"),
     ({"num_images": "400.0"}, "`num_images` must be a whole number; got '400.0'"),
     ({"parameters": 1}, "`parameters` must be [0-9]+, which follows from .*; got 1"),
     ({"multiply_adds": 10}, "`multiply_adds` must be [0-9]+, which follows from .*; got 10"),
    ({"run": "0123abcd"}, "belongs to the run '0123abcd'; this is the run"),
     ({"architecture": "prev1:sep3x3"}, "`architecture`: .*; got 1 in 'prev1")],
    ids=str,
)  # fmt: skip
def test_values_that_cannot_be_are_refused(space, file, values, words):
    """Of the second best of six candidates, in a full search."""
    note_search(file.directory, budget="full", rank_by="accuracy")
    rows = ranked(candidates(space, 6))
    file.write(rows)
    assert file.read() == rows
    edit(file, 3, **values)
    with pytest.raises(ost.InputError, match=f"candidates.csv, line 3.*{words}") as error:
        file.read()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("line, rank, wrong", [(3, 3, 4), (3, 9, 3), (3, 1, 3), (7, 1, 7)])
def test_ranks_that_do_not_follow_the_order_are_refused(space, file, line, rank, wrong):
    file.write(ranked(candidates(space, 6)))
    edit(file, line, rank=rank)
    with pytest.raises(ost.InputError, match=f"line {wrong}: `rank` is .* Leave all ranks empty"):
        file.read()


def test_ranks_may_have_gaps_and_be_empty(space, file):
    """Somebody who removes a damaged line cannot do anything about the other ranks."""
    rows = ranked(candidates(space, 6))
    file.write([rows[0], *rows[2:]])
    assert [c.rank for c in file.read()] == [1, 3, 4, 5, 6]
    edit(file, 4, rank="")
    assert [c.rank for c in file.read()] == [1, 3, 0, 5, 6]


def test_the_same_architecture_twice_is_refused(space, file):
    rows = candidates(space, 4)
    file.write([*rows, rows[1]])
    with pytest.raises(ost.InputError, match="line 6: .* has two lines. Remove one"):
        file.read()


@pytest.mark.parametrize(
    "search, accepts",
    [({"budget": "full", "rank_by": "accuracy"}, {400}),
     ({"budget": "full", "rank_by": "kl"}, {0, 400}),
     ({"budget": "race", "rank_by": "accuracy"}, {128, 400}), (None, {0, 128, 400})],
)  # fmt: skip
def test_each_kind_of_search_measures_on_its_numbers_of_images(space, file, search, accepts):
    if search:
        note_search(file.directory, **search)
    for images in (0, 128, 400, 401):
        (row,) = candidates(space, 1)
        half = {"candidate_accuracy": (images // 2) / max(images, 1), "num_images": images}
        row = dataclasses.replace(row, **(half if images else NOT_MEASURED), divergence=0.5)
        file.write([row])
        if images in accepts:
            assert file.read() == [row]
        else:
            with pytest.raises(ost.InputError, match=f"line 2: `num_images` must.*got {images}"):
                file.read()


def test_accuracies_of_many_images_fit_their_six_decimals(space, tmp_path):
    """Of 123,457 images, of which any number may be right."""
    directory = earlier(begin(tmp_path / "run", space))
    config = json.loads((directory.path / "config.json").read_text())
    config["facts"]["fingerprint"]["validation"][0] = 123_457
    (directory.path / "config.json").write_text(json.dumps(config))
    rights = np.random.default_rng(1).integers(123_458, size=300).tolist()
    rows = [
        dataclasses.replace(c, num_images=123_457, candidate_accuracy=k / 123_457)
        for c, k in zip(candidates(space, 300), rights)
    ]
    file = CandidateFile(directory)
    file.write(rows)
    assert file.read() == rows


def test_a_search_of_other_images_is_refused(space, file):
    file.write(candidates(space, 2))
    note_search(file.directory, num_images=399)
    with pytest.raises(ost.InputError, match="search.json .*must be 400.*got 399"):
        file.read()


def test_candidates_of_another_run_are_refused(space, file, tmp_path):
    """The other run is the same in all but its id."""
    rows = candidates(space, 3)
    file.write(rows)
    other = CandidateFile(begin(tmp_path / "other", space))
    other.path.write_bytes(file.path.read_bytes())
    with pytest.raises(ost.InputError, match="line 2 belongs to the run .*; this is the run"):
        other.read()
    old = CandidateFile(earlier(begin(tmp_path / "old", space)))
    old.path.write_bytes(file.path.read_bytes())
    with pytest.raises(ost.InputError, match="to another run: it has a column 'run', but an earl"):
        old.read()
    old.write(rows)
    assert old.read() == rows and "run" not in old.path.read_text().splitlines()[0].split(",")
    other.path.write_bytes(old.path.read_bytes())
    with pytest.raises(ost.InputError, match="to another run: it has no column 'run'"):
        other.read()
    first = file.path.read_text().splitlines()
    assert first[0].split(",")[-1] == "run"
    assert {line.split(",")[-1][:8] for line in first[1:]} == {file.directory.run_id()[:8]}


def test_a_file_knows_what_it_holds(space, file):
    """So that a search that has nothing to do writes nothing."""
    rows = candidates(space, 5)
    file.write(rows[:4])
    assert file.holds(rows[:4]) and not file.holds(rows)
    file.append(rows[4])
    again = CandidateFile(file.directory)
    assert not file.holds(rows) and not again.holds(rows)
    assert again.read() == rows and again.holds(rows) and not again.holds(ranked(rows))
    file.path.write_text(file.path.read_text() + ",0.5")
    assert again.read() == rows and not again.holds(rows)


def test_a_reader_reads_as_texts_are_read(space):
    architectures = ost.RandomSearch(space, 3).propose(500)
    read = Reader(space)
    for a in architectures * 2:
        assert read(str(a)) == a == ost.Architecture.from_text(str(a))
    loose = str(architectures[0]).replace(" ", "").replace("|", " |  ")
    assert read(loose) == architectures[0]
    first, *others = str(architectures[0]).split(" | ")
    for text in ("", first, " | ".join([first, *others, first]), f"{first} | {first}",
                 str(space.all_on()), "x" * 20_000):  # fmt: skip
        with pytest.raises(ost.InputError):
            read(text)


def test_many_candidates_take_little_memory(space, tmp_path):
    """4,000 lines of some 160 characters."""
    file, rows = CandidateFile(begin(tmp_path / "run", space)), ranked(candidates(space, 4_000))
    file.write(rows)
    tracemalloc.start()
    try:
        found = CandidateFile(file.directory).read()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == rows
    assert most < 4000 * len(rows)
