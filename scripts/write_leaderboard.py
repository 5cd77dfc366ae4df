"""Writes docs/leaderboard.md from the results in benchmarks/results/compare, a file for each row.

python scripts/write_leaderboard.py
"""

from pathlib import Path

from pointpeft.measure.comparison_rows import as_markdown, judge, read_rows

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results/compare"
WEIGHTS_BEFORE = "cd368e3a"
PAGE = ROOT / "docs/leaderboard.md"
INTRODUCTION = """# Leaderboard

Results of `pointpeft compare`. Rows of one table were measured on the same test shapes after
training on the same number of shapes. A paired permutation test, adjusted by Holm's method for all
pairs of the table, says whether a row differs from the best one beyond chance. [Comparing
methods](comparing.md) explains the terms.

To add rows, run `pointpeft compare` and copy its output folder, or files of the folder `rows` in
it, into `benchmarks/results/compare`. Then run `scripts/write_leaderboard.py`, which writes this
page.

Look at the columns before you compare rows from several runs. Epochs, seeds and the number of
learning rates to choose from should be equal, and are not everywhere: the column says which rates
were tried. Times are those of the machine that ran it, and most of these rows were measured while
it did other work: [what a step costs](methods.md#what-a-training-step-costs) was measured apart.
"Stored" is the file of what was trained or fitted, with a memory bank if the method has one; names
of training shapes, and their features for the nearest ones, come on top of it.

`homeobjects` and `mechparts` come with the package. `shapes69`, 1,973 everyday CAD models of 69
classes, and `parts19`, 304 of 19 categories with part labels, do not: their licences are not known.
They serve to measure: nothing that we ship was trained on them. Which weights
ship was not chosen by them either, but an early look at the 69 classes was one reason to pre-train
with contrast.

The weights that come with the package now are `c9346f5a`. What was not measured on them yet stands
[below](#earlier-weights), on the weights before.
"""
EARLIER = """# Earlier weights

Rows of the weights `cd368e3a`, `point_mae_small` as it came with the package before: after 840,000
clouds, and now 1,440,000 ([what a linear SVM has on
both](pretraining.md#what-is-learnt-terms-of-the-loss)). They are held to each other alone.
"""


def page(results: Path) -> str:
    """The text of the page, of the rows in a folder, and of earlier ones in a folder below it."""
    text = f"{INTRODUCTION.strip()}\n\n{as_markdown(judge(read_rows(results)))}\n"
    if earlier := read_rows(results / WEIGHTS_BEFORE):
        text += f"\n{EARLIER.strip()}\n\n{as_markdown(judge(earlier))}\n"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(RESULTS), encoding="utf-8")
