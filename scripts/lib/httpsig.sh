#!/usr/bin/env bash
# Installs two packages for HTTP message signatures that are not ours, where tests/it/httpsig.rs finds them: one for
# Python, and one for Node where Node and npm are.
set -euo pipefail
cd "$(dirname "$0")/../.."
home=target/tools/httpsig
if [ ! -f "$home/ready" ]; then
    mkdir -p "$home"
    python3 -m venv "$home/python" >/dev/null
    if ! "$home/python/bin/pip" install --quiet --disable-pip-version-check http-message-signatures==3.0.0 2>"$home/pip.log"; then
        cat "$home/pip.log" >&2
        echo "next: http-message-signatures could not be installed; check the network" >&2
        exit 1
    fi
    touch "$home/ready"
fi
if command -v node >/dev/null && command -v npm >/dev/null && [ ! -d "$home/node_modules/http-message-signatures" ]; then
    if ! npm install --silent --no-audit --no-fund --prefix "$home" http-message-signatures@1.0.6 >"$home/npm.log" 2>&1; then
        cat "$home/npm.log" >&2
        echo "next: http-message-signatures could not be installed; check the network" >&2
        exit 1
    fi
fi
echo "$PWD/$home"
