"""The options of all commands: none disappears, the help fits one screen, commands on a suite read it alike."""

import argparse
from pathlib import Path

import pytest

from cl_semisup import cli
from cl_semisup.cli import arguments

SUITE = ("suite", "--results", "--data-dir", "--plugin")
RUN: tuple[str, ...] = (
    "--device",
    "--workers",
    "--fill-gpu",
    "--compile",
    "--no-channels-last",
    "--plain",
    "--threads",
    "--redo",
)
RUN += ("--run-timeout", "--checkpoint-seconds", "--no-wait", "--watch", "--engine", "--address", "--run-cpus")
RUN += ("--run-gpus", "--print-sbatch")
GATE = ("suite", "--reference", "--update", "--reason", "--history", "--tiers", "--json", "--junit", "--html")
PUBLISHED = {  # command -> its options; users' scripts have them
    "run": (*SUITE, *RUN, "--help-all"),
    "check": (*SUITE, "--device", "--workers"),
    "report": (*SUITE, "--watch"),
    "export": (*SUITE, "folder", "--to"),
    "compare": ("a", "b", "--suite", "--results", "--score"),
    "list": ("--plugin",),
    "check-loss": ("file",),
    "check-plugin": ("file", "--settings", "--data-dir"),
    "gate": (*GATE, "--workers", "--data-dir", "--plugin"),
    "schema": (),
}


def options_of(name: str) -> dict[str, argparse.Action]:
    """Option or positional argument -> its action."""
    actions = command_parser(name)._actions
    return {option: action for action in actions for option in action.option_strings or [action.dest]}


def command_parser(name: str) -> argparse.ArgumentParser:
    parser = cli.build_parser()
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return commands.choices[name]


def help_text(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit):
        cli.main(words)
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in cli.COMMANDS)], ids=" ".join)
def test_the_help_fits_30_lines_of_80_columns(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    lines = help_text(capsys, *words).splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", PUBLISHED)
def test_no_option_disappears(name: str) -> None:
    assert set(PUBLISHED[name]) <= options_of(name).keys()


def test_all_options_of_a_run_are_accepted_together() -> None:
    words = "run s.yaml --results r --data-dir d --plugin p.py --device cpu --workers 2 --fill-gpu --compile --plain"
    words += " --no-channels-last --threads 1 --run-timeout 5 --checkpoint-seconds 5 --engine ray --address a:1"
    words += " --run-cpus 2 --run-gpus 0.5 --print-sbatch --no-wait --redo stale --watch 5"
    options = cli.build_parser().parse_args(words.split())
    assert (options.suite, options.plugin) == (Path("s.yaml"), [Path("p.py")])
    assert {option for option in words.split() if option.startswith("--")} == set(SUITE[1:]) | set(RUN)


def test_help_all_shows_every_option_in_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_text(capsys, "run", "--help-all")
    for option in options_of("run"):
        assert f"  {option}" in text or f", {option}" in text, option
    groups = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert groups == [
        "positional arguments:",
        "options:",
        "speed:",
        "limits:",
        "other programs (docs/records.md):",
        "clusters (docs/scaling.md):",
    ]


def test_every_command_that_reads_a_suite_has_the_same_options_for_it() -> None:
    reading = argparse.ArgumentParser(add_help=False)
    arguments.add_reading(reading)
    readers = [name for name in cli.COMMANDS if {"suite", "--suite"} & options_of(name).keys()]
    assert readers == ["run", "check", "report", "compare", "export", "submit", "cite", "gate"]
    for name in readers:
        for expected in reading._actions:
            action = options_of(name)[expected.option_strings[0]]
            assert (action.dest, action.type, action.default) == (expected.dest, expected.type, expected.default)


@pytest.mark.parametrize("there", ["link", "file"])
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--to", "site results --to PLACE"),
        ("DIR", "export tiny.yaml PLACE --to csv"),
        ("DIR", "export tiny.yaml PLACE --to parquet"),
        ("FILE", "submit results PLACE --suite tiny.yaml"),
    ],
)
def test_where_no_folder_can_be_the_option_that_names_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, words: str, there: str
) -> None:
    place, got = tmp_path / "x", {"link": "a link to nowhere", "file": "a file"}[there]
    if there == "link":
        place.symlink_to(tmp_path / "nowhere")
    else:
        place.write_text("")
    assert cli.main([str(place) if word == "PLACE" else word for word in words.split()]) == cli.BAD_INPUT
    assert (
        f"{option}: must be a folder, or none yet. Got {got}, {str(place)!r}. Name another" in capsys.readouterr().err
    )
