"""`python -m serving.gateway SETTINGS.json`."""

import sys

from serving.gateway.run import main

sys.exit(main())
