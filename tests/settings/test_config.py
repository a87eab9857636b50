"""Command lines and flag files: found, nested, checked; each flag file says what it is."""

import dataclasses
import math

import pytest

import oneshot_tf as ost
from oneshot_tf import reproduce, search, settings, tune
from oneshot_tf.settings import StrategySettings, command_line, setting
from oneshot_tf.strategies import (
    DEFAULT_STRATEGY,
    PROPOSERS,
    STRATEGIES,
    PathDropoutSettings,
)

TRAIN = (
    settings.RunSettings,
    settings.DataSettings,
    settings.ModelSettings,
    settings.TrainSettings,
    settings.OneShotSettings,
    command_line.strategy(STRATEGIES, DEFAULT_STRATEGY),
    settings.DeviceSettings,
)
RETRAIN = (
    settings.RunSettings,
    settings.RetrainSettings,
    settings.TrainSettings,
    settings.DeviceSettings,
    settings.FinalSettings,
)
SEARCH = (
    settings.RunSettings,
    search.SearchSettings,
    command_line.strategy(PROPOSERS, "random"),
    settings.LocationSettings,
    settings.DistributionSettings,
    settings.LimitSettings,
)
FLAG_FILES = sorted(command_line.FLAG_FILE_FOLDERS[1].glob("*.flags"))


def parse(*args, groups=TRAIN):
    return command_line.parse(["program", "--run_dir=x", *args], groups)


def test_settings_come_from_flags():
    run, data, model, train, one_shot, strategy, device = parse(
        "--filters=8", "--nodownload", "--learning_rate=0.5", "--mixed_precision"
    )
    assert (run.run_dir, model.filters, data.download) == ("x", 8, False)
    assert (train.learning_rate, device.dtype) == (0.5, "mixed_bfloat16")
    assert one_shot == settings.OneShotSettings()
    assert strategy == PathDropoutSettings()


def test_what_is_written_to_flags_txt_is_read_back(tmp_path):
    chosen = parse("--filters=8", "--nodownload", "--dataset=folder:/a b", "--drop_rate=0.25")
    (tmp_path / "flags.txt").write_text("\n".join(command_line.as_flag_lines(chosen)))
    assert command_line.parse(["p", f"--flagfile={tmp_path}/flags.txt"], TRAIN) == chosen


@pytest.mark.parametrize(
    "flag, part",
    [
        ("--bathc_size=8", "batch_size"),
        ("--drop_rate=1.5", "--drop_rate must be at most 1.0; got 1.5"),
        ("--drop_rate=-0.1", "at least 0"),
        ("--drop_rate=nan", "nan"),
        ("--drop_schedule=cosine", "linear, constant"),
        ("--train_steps=-1", "--train_steps must be at least 0; got -1"),
        ("--filters=many", "filters"),
        ("--learning_rate=0", "above 0"),
        ("--batch_size=100", "multiple of --ghost_batch_size=32"),
        ("--distribution=gpu", "mirrored"),
        ("train", "'train' is not a flag"),
        ("--run_dir=", "--run_dir"),
        ("--flagfile=no_such.flags", "cifar.flags"),
        ("--flagfile=", "cifar.flags"),
    ],
)
def test_bad_flags_get_one_line(flag, part):
    with pytest.raises(ost.InputError) as error:
        parse(flag)
    assert part in str(error.value)
    assert "\n" not in str(error.value).strip()


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as done:
        parse("--help")
    assert done.value.code == 0
    text = capsys.readouterr().out
    for name in ("run_dir", "drop_rate", "[no]download", "ghost_batch_size", "distribution"):
        assert f"--{name}: " in text


def test_a_flag_file_of_the_package_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse("--flagfile=cifar.flags")[2].filters == 16
    (tmp_path / "cifar.flags").write_text("# mine\n--filters=3\n")  # one's own comes first
    assert parse("--flagfile=cifar.flags")[2].filters == 3
    assert parse("--flagfile=cifar.flags", "--filters=4")[2].filters == 4  # later wins


def test_a_flag_file_may_name_others_beside_it(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "base.flags").write_text("--filters=5\n--num_cells=2\n")
    (tmp_path / "sub" / "top.flags").write_text("--flagfile=base.flags\n--filters=6\n")
    monkeypatch.chdir(tmp_path)
    model = parse("--flagfile=sub/top.flags")[2]
    assert (model.filters, model.num_cells) == (6, 2)


@pytest.mark.parametrize(
    "text, part",
    [("--flagfile=me.flags", "includes itself"), ("filters=3", "line 1"), ("\xff\x00", "line 1")],
)
def test_a_bad_flag_file(tmp_path, monkeypatch, text, part):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me.flags").write_text(text)
    with pytest.raises(ost.InputError, match=part):
        parse("--flagfile=me.flags")


def test_binary_flag_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me.flags").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ost.InputError, match="cannot be read"):
        parse("--flagfile=me.flags")


@pytest.mark.parametrize("path", FLAG_FILES, ids=lambda p: p.name)
def test_each_flag_file_parses_and_explains_itself(path):
    lines = path.read_text().splitlines()
    for word in ("Run", "Cost", "Expect", "Source"):
        assert any(line.startswith(f"# {word}: ") for line in lines), word
    groups = RETRAIN if "retrain" in path.name else TRAIN
    groups = (*TRAIN, tune.TuneSettings) if path.name.startswith("tune") else groups
    groups = SEARCH if path.stem in PROPOSERS else groups
    if path.name.startswith(("figure", "table")):
        groups = (settings.RunSettings, reproduce.ReproduceSettings)
    chosen = parse(f"--flagfile={path}", groups=groups)
    assert len(chosen) == len(groups)
    assert f"--flagfile={path.name} " in next(line for line in lines if line.startswith("# Run: "))


def test_the_flag_file_is_the_papers_protocol():
    _, data, model, train, one_shot, strategy, _ = parse("--flagfile=cifar.flags")
    assert (data.dataset, data.num_validation) == ("cifar10", 5_000)  # of 50,000: 45,000 are left
    assert (model.num_cells, model.filters, model.num_blocks) == (6, 16, 4)
    assert (train.momentum, train.learning_rate) == (0.9, 0.1)
    assert (train.batch_size, train.device_batch_size, train.ghost_batch_size) == (1024, 64, 32)
    assert (strategy.drop_rate, strategy.drop_schedule) == (0.1, "linear")
    assert one_shot.train_steps == 10_000
    assert math.isclose(one_shot.train_steps * train.batch_size / 45_000, 227.6, abs_tol=0.1)


def test_the_flag_files_of_final_training():
    for name, epochs in (("cifar_retrain.flags", 300), ("cifar_retrain_28.flags", 28)):
        _, retrain, train, _, _ = parse(f"--flagfile={name}", groups=RETRAIN)
        assert (retrain.epochs, retrain.top, retrain.count) == (epochs, 100, 10)
        assert (train.batch_size, train.ghost_batch_size) == (64, 32)


@pytest.mark.parametrize(
    "flag, words",
    [
        ("--num_cells=1e3", "--num_cells must be a whole number; got '1e3'."),
        ("--num_cells=3.0", "--num_cells must be a whole number; got '3.0'."),
        ("--learning_rate=0,1", "--learning_rate must be a number; got '0,1'."),
        ("--mixed_precision=maybe", "--mixed_precision must be true or false; got 'maybe'."),
    ],
)
def test_values_of_another_kind(flag, words):
    with pytest.raises(ost.InputError) as error:
        parse(flag)
    assert str(error.value) == words


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_flag_files_are_utf_8_with_or_without_byte_order_mark(tmp_path, mark):
    text = f"{mark}--dataset=folder:caf\u00e9\r\n# Gr\u00f6\u00dfe\r\n--num_cells=2\r\n"
    (tmp_path / "a.flags").write_bytes(text.encode("utf-8"))
    _, data, model, *_ = parse(f"--flagfile={tmp_path}/a.flags")
    assert (data.dataset, model.num_cells) == ("folder:caf\u00e9", 2)


@dataclasses.dataclass(frozen=True)
class ToySettings(StrategySettings):
    """A toy."""

    strategy: str = setting("toy", "How training chooses paths.", choices=("toy",))
    temperature: float = setting(1.0, "Temperature.", above=0.0)
    eager: bool = setting(False, "Whether it is eager.")


TOYS = command_line.OneOf(
    "strategy", {"path_dropout": PathDropoutSettings, "toy": ToySettings}, "path_dropout"
)


def test_a_strategy_brings_its_own_flags(tmp_path):
    groups = (settings.RunSettings, TOYS)
    assert parse(groups=groups)[1] == PathDropoutSettings()
    for args in (["--strategy=toy", "--temperature=2"], ["--temperature=2", "--strategy", "toy"]):
        chosen = parse(*args, groups=groups)[1]
        assert chosen == ToySettings(temperature=2.0)
        (tmp_path / "flags.txt").write_text("\n".join(command_line.as_flag_lines([chosen])))
        assert parse(f"--flagfile={tmp_path}/flags.txt", groups=groups)[1] == chosen


@pytest.mark.parametrize(
    "args, words",
    [
        (["--strategy=toy", "--drop_rate=0.1"],
         "--drop_rate is a setting of --strategy=path_dropout. It does not apply to "
         "--strategy=toy; leave it out."),
        (["--noeager"],
         "--noeager is a setting of --strategy=toy. It does not apply to "
         "--strategy=path_dropout; leave it out."),
        (["--strategy=no"], "--strategy must be one of path_dropout, toy; got 'no'."),
        (["--strategy=toy", "--temperature=0"], "--temperature must be above 0.0; got 0.0."),
    ],
)  # fmt: skip
def test_a_flag_of_another_strategy_is_refused_by_name(args, words):
    with pytest.raises(ost.InputError) as error:
        parse(*args, groups=(settings.RunSettings, TOYS))
    assert str(error.value) == words


def test_help_shows_common_flags_first_and_fits_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    with pytest.raises(SystemExit):
        parse("--help")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 70
    first = lines.index("Most used flags:")
    group = lines.index("Training of the one-shot model and of stand-alone models:")
    filters, momentum = (
        next(i for i, line in enumerate(lines) if line.startswith(f"  --{name}:"))
        for name in ("filters", "momentum")
    )
    assert first < filters < group < momentum
