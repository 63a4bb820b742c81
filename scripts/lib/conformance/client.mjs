// Plays one of the suite's client scenarios through a bridge, as an MCP client would: `conformance client` starts this
// with its server's URL. The bank serves that server in place of its tools (src/mcp/fixtures/hop.rs), and the bridge is
// `countersign connect` as it is.
import { spawn } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";

const { COUNTERSIGN, AGENT_HOST, COUNTERSIGN_CONFORMANCE_SERVER, MCP_CONFORMANCE_SCENARIO } = process.env;
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? "{}");

const VERSION = "2026-07-28";
const WRONG_VERSION = -32022;
const PREFIX = "io.modelcontextprotocol/";

// The bank's front looks up no names.
const url = process.argv.at(-1).replace("//localhost", "//127.0.0.1");
writeFileSync(COUNTERSIGN_CONFORMANCE_SERVER, url);
// Each server has tools of its own: the first manifest is accepted as it comes.
rmSync(`${AGENT_HOST}/anchors/tool-manifest.json`, { force: true });

const bridge = spawn(COUNTERSIGN, ["--state", AGENT_HOST, "connect", "--agent", "assistant"], {
    stdio: ["pipe", "pipe", "inherit"],
});
const waiting = new Map();
createInterface({ input: bridge.stdout }).on("line", (line) => {
    const message = JSON.parse(line);
    waiting.get(message.id)?.(message);
    waiting.delete(message.id);
});

let lastId = 0;
function answer(method, params = {}, capabilities = { elicitation: { form: {}, url: {} } }) {
    const id = ++lastId;
    const meta = {
        [`${PREFIX}protocolVersion`]: VERSION,
        [`${PREFIX}clientCapabilities`]: capabilities,
        [`${PREFIX}clientInfo`]: { name: "conformance-client", version: "1" },
    };
    const answered = new Promise((resolve) => waiting.set(id, resolve));
    bridge.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", id, method, params: { ...params, _meta: meta } })}\n`);
    return answered;
}

async function ask(method, params) {
    const { result, error } = await answer(method, params);
    if (error) throw new Error(`${method}: ${JSON.stringify(error)}`);
    return result;
}

const list = async () => (await ask("tools/list")).tools;
const call = (name, args = {}, more = {}) => ask("tools/call", { name, arguments: args, ...more });

function expect(holds, what) {
    if (!holds) throw new Error(what);
}

// What a person would say to each thing that is asked.
function responses({ inputRequests }) {
    const said = Object.entries(inputRequests).map(([key, { method }]) => {
        expect(method === "elicitation/create", `${key}: ${method}`);
        return [key, { action: "accept", content: { confirmed: true } }];
    });
    return Object.fromEntries(said);
}

const scenarios = {
    async tools_call() {
        const [tool] = await list();
        const { content } = await call(tool.name, { a: 5, b: 3 });
        expect(content[0].text.includes("8"), `the sum is ${content[0].text}`);
    },
    async "request-metadata"() {
        // Its server refuses the first request, for the version that it then says it takes.
        const { error } = await answer("tools/list");
        expect(error?.code === WRONG_VERSION, `the first answer is ${JSON.stringify(error)}`);
        await answer("tools/list");
    },
    async "sep-2322-client-request-state"() {
        await list();
        const stateful = await call("test_mrtr_echo_state");
        await call("test_mrtr_unrelated");
        const more = { inputResponses: responses(stateful), requestState: stateful.requestState };
        await call("test_mrtr_echo_state", {}, more);
        const stateless = await call("test_mrtr_no_state");
        expect(!("requestState" in stateless), "a state came from nowhere");
        await call("test_mrtr_no_state", {}, { inputResponses: responses(stateless) });
        const plain = await call("test_mrtr_no_result_type");
        expect(plain.resultType === "complete", `an answer without a type is ${plain.resultType}`);
    },
    async "http-standard-headers"() {
        for (const { name } of await list()) await call(name);
        for (const { uri } of (await ask("resources/list")).resources) await ask("resources/read", { uri });
        for (const { name } of (await ask("prompts/list")).prompts) await ask("prompts/get", { name });
    },
    async "http-custom-headers"() {
        await list();
        for (const { name, arguments: args } of context.toolCalls) await call(name, args);
    },
    async "http-invalid-tool-headers"() {
        // Whatever the bridge shows is called.
        for (const { name } of await list()) await call(name, { region: "us-west1" });
    },
    async "json-schema-ref-no-deref"() {
        const [tool] = await list();
        expect(tool.inputSchema.properties.profile.$ref.includes("/canary/"), "the schema was changed on its way");
    },
    async "json-schema-2020-12-preservation"() {
        const tools = await list();
        const { inputSchema } = tools.find(({ name }) => name === "json_schema_2020_12_tool");
        await call("json_schema_echo", { schema: inputSchema });
    },
};

try {
    await scenarios[MCP_CONFORMANCE_SCENARIO]();
} catch (error) {
    console.error(error);
    process.exitCode = 1;
}
bridge.stdin.end();
