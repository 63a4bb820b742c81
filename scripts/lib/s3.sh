#!/usr/bin/env bash
# Installs an S3 server that is not ours and knows object lock, where tests/it/archive.rs finds it.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib/prepare.sh
python_tool s3 "moto[server]==5.2.5"
echo "$PWD/target/tools/s3"
