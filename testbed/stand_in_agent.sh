#!/bin/sh
# A stand-in for a coding agent: answers a request by adding a page to the repository.
# It is started by runa in the clone, reads its prompt on standard input, and reports by an artifact.
set -eu

# The pauses only make it visible that output comes while the agent works.
say() {
    echo "agent: $*"
    sleep 0.05
}

protocol=$(sed -n 's/^# Protocol: //p')
say "working on protocol '$protocol' in $(pwd)"
echo "agent: (standard error is shown as well)" >&2

request=.runa/workspace/request/operator-input.json
say "the request: $(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["description"])' "$request")"

cat > status.html <<'PAGE'
<!doctype html>
<title>Status</title>
<h1>All systems work</h1>
PAGE
say "wrote status.html"

mkdir -p .runa/workspace/report
python3 - "$request" > .runa/workspace/report/status-page.json <<'PYTHON'
import json
import sys

with open(sys.argv[1]) as request:
    asked = json.load(request)["description"]
print(json.dumps({"request": asked, "summary": "Added a status page", "files": ["status.html"]}))
PYTHON
say "wrote the report"
