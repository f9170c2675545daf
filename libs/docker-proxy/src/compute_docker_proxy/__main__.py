"""`python -m compute_docker_proxy`."""

import sys

from compute_docker_proxy.main import main

sys.exit(main())
