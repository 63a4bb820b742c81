#!/usr/bin/env bash
# Installs a mail server that is not ours, where tests/it/notify.rs finds it.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib/prepare.sh
python_tool notify/python aiosmtpd==1.4.6 standardwebhooks==1.0.1
echo "$PWD/target/tools/notify"
