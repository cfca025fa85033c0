"""``python -m cubeingest``."""

from cubeingest.cli import main

main()
