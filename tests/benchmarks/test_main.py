"""The command line of the benchmarks."""

from benchmarks.__main__ import main, names, parser


def test_an_unknown_benchmark_is_one_line_and_exit_code_2(capsys):
    assert main(["nope"]) == 2
    error = capsys.readouterr().err
    assert "benchmark: got 'nope', expected one of" in error and error.count("\n") == 1


def test_the_help_names_every_benchmark_and_its_example_parses():
    text = parser().format_help()
    assert all(name in text for name in names())
    example = text.split("Example: ./zhiyin bench ")[1].split()
    assert parser().parse_args(example).name in names()
