#!/usr/bin/env bash
# Compares what the console brings from npm with what npm has under the pinned hashes. Exit 1: a file is another one.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib/prepare.sh
assets=src/front/console/assets
home=target/tools/assets
wanted=$(cat "$assets/package.json" "$assets/package-lock.json" | sha256sum)
if [ ! -f "$home/ready" ] || [ "$(cat "$home/ready")" != "$wanted" ]; then
    rm -rf "$home"
    mkdir -p "$home"
    cp "$assets/package.json" "$assets/package-lock.json" "$home/"
    # Its own scripts are not run; a package whose hash is not that of the lock file is refused.
    installed assets "$home" "$wanted" npm ci --silent --ignore-scripts --no-audit --no-fund --prefix "$home"
fi
status=0
while read -r ours theirs; do
    if ! cmp -s "$assets/$ours" "$home/node_modules/uplot/$theirs"; then
        echo "$assets/$ours is not uplot's $theirs" >&2
        status=1
    fi
done <<FILES
uplot.iife.min.js dist/uPlot.iife.min.js
uplot.min.css dist/uPlot.min.css
uplot.LICENSE LICENSE
FILES
if [ "$status" -ne 0 ]; then
    echo "next: copy them from $home/node_modules/uplot, or correct the versions in $assets/package.json" >&2
    exit 1
fi
echo "$PWD/$home"
