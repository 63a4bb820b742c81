#!/usr/bin/env bash
# Installs pyasn1-alt-modules, an RFC 9763 decoder that is not ours, where tests/it/pairs.rs finds it.
set -euo pipefail
cd "$(dirname "$0")/../.."
home=target/tools/asn1
if [ ! -d "$home/lib" ] || [ ! -f "$home/ready" ]; then
    mkdir -p target/tools
    python3 -m venv "$home" >/dev/null
    if ! "$home/bin/pip" install --quiet --disable-pip-version-check pyasn1-alt-modules==0.4.10 2>"$home/pip.log"; then
        cat "$home/pip.log" >&2
        echo "next: pyasn1-alt-modules could not be installed; check the network" >&2
        exit 1
    fi
    touch "$home/ready"
fi
echo "$PWD/$home/bin/python"
