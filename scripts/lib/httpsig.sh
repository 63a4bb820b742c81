#!/usr/bin/env bash
# Installs two packages for HTTP message signatures that are not ours, where tests/it/httpsig.rs finds them: one for
# Python, and one for Node where Node and npm are.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib/prepare.sh
python_tool httpsig/python http-message-signatures==3.0.0
if command -v node >/dev/null && command -v npm >/dev/null; then
    node_tool httpsig/node http-message-signatures@1.0.6
fi
echo "$PWD/target/tools/httpsig"
