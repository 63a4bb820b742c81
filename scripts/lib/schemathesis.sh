#!/usr/bin/env bash
# Installs schemathesis, which drives the signing service from its OpenAPI document, where tests/it/signing.rs finds it.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib/prepare.sh
python_tool schemathesis schemathesis==4.32.5
echo "$PWD/target/tools/schemathesis"
