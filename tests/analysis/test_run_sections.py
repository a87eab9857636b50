"""The section of the report about exported formats."""

import pytest
from candidate_runs import begin

import oneshot_tf as ost
from oneshot_tf.analysis import run_sections
from oneshot_tf.analysis.page import Page
from oneshot_tf.analysis.served import read_export
from oneshot_tf.system.files import make_folder
from oneshot_tf.system.json_files import write_json

ROW = {
    "format": "tflite_int8", "bytes": 34512, "accuracy": 0.91, "largest_difference": 0.2,
    "same_classes": 0.98, "one_ms": 0.25, "batch_ms": 4.5, "runtime": "LiteRT 2.3.0",
}  # fmt: skip


def test_the_exported_formats_are_shown(space, tmp_path):
    directory = begin(tmp_path / "run", space)
    page = Page()
    run_sections.exported(page, read_export(directory))  # nothing was exported
    path = make_folder(directory.path / "export") / "formats.json"
    table = {"run_id": directory.run_id(), "net": "top/net_00/run_0", "how": "By a clock.",
             "images": "On 300 test images.", "formats": [ROW]}  # fmt: skip
    write_json(path, table)
    run_sections.exported(page, read_export(directory))
    text = page.write(tmp_path / "report", "title", []).read_text()
    assert text.count("Exported formats") == 1
    for part in ("top/net_00/run_0", "On 300 test images.", "By a clock.", "34,512", "2.0e-01"):
        assert part in text
    row = 'tflite_int8,"34,512",0.9100,2.0e-01,0.9800,0.250,4.500,LiteRT 2.3.0'
    assert row in (tmp_path / "report" / "formats.csv").read_text().splitlines()
    versions = [path.parent / number for number in ("2", "10")]
    for version, net in zip(versions, ("two", "ten")):
        write_json(make_folder(version) / "formats.json", {**table, "net": net})
    path.unlink()
    page = Page()
    run_sections.exported(page, read_export(directory))
    text = page.write(tmp_path / "report", "title", []).read_text()
    assert "The model ten in each format, version 10 of the export." in text
    path = versions[1] / "formats.json"
    for wrong, said in (
        ({"formats": [{**ROW, "bytes": "many"}]}, "damaged or of another version"),
        ({"run_id": "another"}, "belongs to the run another"),
    ):
        write_json(path, {**table, **wrong})
        with pytest.raises(ost.InputError, match=said):
            read_export(directory)
