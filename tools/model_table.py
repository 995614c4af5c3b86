"""Writes docs/models.md, the table of all models, from the registry and the releases: python tools/model_table.py"""

import os
import pathlib

from keras_cnns.weights import cards

HEAD = """# Models and their released weights

Written by `python tools/model_table.py` from the graphs, the table of releases and the tests' parity table; a model's
own card: `keras-cnns models NAME`. "Checked" is of a donor of random weights and batch norm statistics, carried over.

"""


def main():
    path = pathlib.Path(__file__).parent.parent / "docs" / "models.md"
    path.parent.mkdir(exist_ok=True)
    aside = path.with_name(".models.md.writing")
    aside.write_text(HEAD + cards.table())
    os.replace(aside, path)
    print(path)


if __name__ == "__main__":
    main()
