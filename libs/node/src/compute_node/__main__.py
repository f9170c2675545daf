"""`python -m compute_node`."""

import sys

from compute_node.main import main

sys.exit(main())
