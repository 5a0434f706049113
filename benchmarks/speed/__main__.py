from benchmarks.speed.cli import command

command()
