"""`python -m clipmill.jobs.cli`, which torchrun can start."""

from . import main

main()
