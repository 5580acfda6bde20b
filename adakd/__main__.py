"""`python -m adakd`."""

from .cli import main

raise SystemExit(main())
