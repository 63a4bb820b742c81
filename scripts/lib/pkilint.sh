#!/usr/bin/env bash
# Installs the certificate linter pkilint where tests/it/lint.rs finds it. Prints the path of its Python.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib/prepare.sh
python_tool pkilint pkilint==0.13.3
echo "$PWD/target/tools/pkilint/bin/python"
