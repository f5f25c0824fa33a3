"""What all tests share: how Hypothesis searches."""

import os

from hypothesis import settings

LONG = os.environ.get("AGENTD_TESTS_LONG") == "1"

# No deadline: one slow example on a busy machine says nothing about the code.
settings.register_profile("agentd", deadline=None, max_examples=1000 if LONG else 100)
settings.load_profile("agentd")
