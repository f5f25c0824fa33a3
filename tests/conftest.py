"""What all tests share: how Hypothesis searches, and which signals a program starts with."""

import os
import signal

from hypothesis import settings

LONG = os.environ.get("AGENTD_TESTS_LONG") == "1"

# No deadline: one slow example on a busy machine says nothing about the code.
settings.register_profile("agentd", deadline=None, max_examples=1000 if LONG else 100)
settings.load_profile("agentd")

# A shell starts its background jobs with SIGINT ignored, and so would be whatever a test starts:
# what it is to do at SIGINT must not depend on how the tests were started.
signal.signal(signal.SIGINT, signal.default_int_handler)
