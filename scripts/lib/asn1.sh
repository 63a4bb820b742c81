#!/usr/bin/env bash
# Installs pyasn1-alt-modules, an RFC 9763 decoder that is not ours, where tests/it/pairs.rs finds it.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib/prepare.sh
python_tool asn1 pyasn1-alt-modules==0.4.10
echo "$PWD/target/tools/asn1/bin/python"
