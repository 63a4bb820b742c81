#!/usr/bin/env bash
# Installs what drives Debian's Chromium where tests/it/console.rs finds it: Playwright, axe, and certutil for the browser's trust.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib/prepare.sh
need chromium chromium certutil libnss3-tools node nodejs npm npm
node_tool browser playwright-core@1.64.0 axe-core@4.11.0
echo "$PWD/target/tools/browser"
