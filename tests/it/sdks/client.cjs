// An MCP client made with the official TypeScript SDKs: `client.cjs SDK COMMAND [WORD …]`, where SDK is `sdk` for
// @modelcontextprotocol/sdk, or `legacy` or a protocol version for @modelcontextprotocol/client. NODE_PATH names the
// packages. Takes orders and answers them as client.py does.
const readline = require('node:readline');

function made(kind, server) {
    const identity = { name: 'test', version: '1' };
    if (kind === 'sdk') {
        const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
        const { StdioClientTransport } = require('@modelcontextprotocol/sdk/client/stdio.js');
        return [new Client(identity), new StdioClientTransport(server)];
    }
    const { Client } = require('@modelcontextprotocol/client');
    const { StdioClientTransport } = require('@modelcontextprotocol/client/stdio');
    const mode = kind === 'legacy' ? 'legacy' : { pin: kind };
    return [new Client(identity, { versionNegotiation: { mode } }), new StdioClientTransport(server)];
}

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

async function main() {
    const [kind, command, ...args] = process.argv.slice(2);
    const [client, transport] = made(kind, { command, args, stderr: 'inherit' });
    await client.connect(transport);
    say({ protocol: client.getNegotiatedProtocolVersion?.() ?? null });
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const order = JSON.parse(line);
        if (order.list) {
            const { tools } = await client.listTools();
            say({ tools: tools.map((tool) => tool.name) });
        } else {
            const result = await client.callTool({ name: order.call, arguments: order.arguments });
            say({ is_error: result.isError === true, content: result.structuredContent });
        }
    }
    await client.close();
}

main().catch((error) => {
    console.error(error);
    process.exitCode = 1;
});
