#!/usr/bin/env bash
# Installs the certificate linter pkilint where tests/it/lint.rs finds it. Prints the path of its Python.
set -euo pipefail
cd "$(dirname "$0")/../.."
home=target/tools/pkilint
if [ ! -x "$home/bin/lint_pkix_cert" ]; then
    mkdir -p target/tools
    python3 -m venv "$home" >/dev/null
    if ! "$home/bin/pip" install --quiet --disable-pip-version-check pkilint==0.13.3 2>"$home/pip.log"; then
        cat "$home/pip.log" >&2
        echo "next: pkilint comes from PyPI; check the network" >&2
        exit 1
    fi
fi
echo "$PWD/$home/bin/python"
