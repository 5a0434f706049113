from benchmarks.miou.cli import command

command()
