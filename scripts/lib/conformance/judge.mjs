// Judges what the suite ran, also what it does not score: extensions, and what came after the revision. Words: where the
// results are. Fails for each scenario with a failure that is not in expected-failures.yml, for each in there that has
// none, and if there is nothing to judge. Says on stdout which scenarios were warned of and nothing worse.
import { readFileSync, readdirSync } from "node:fs";

const [results] = process.argv.slice(2);
const baseline = readFileSync(new URL("expected-failures.yml", import.meta.url), "utf8");
const expected = new Set([...baseline.matchAll(/^\s+- (\S+)$/gm)].map(([, name]) => name));
const runs = readdirSync(results);
let unexpected = 0;
for (const run of runs) {
    const scenario = run.replace(/^server-/, "").replace(/-\d{4}-\d\d-\d\dT.*$/, "");
    const checks = JSON.parse(readFileSync(`${results}/${run}/checks.json`, "utf8"));
    const worse = checks.filter(({ status }) => status === "FAILURE" || status === "WARNING");
    const failed = worse.some(({ status }) => status === "FAILURE");
    if (failed !== expected.has(scenario)) {
        unexpected += 1;
        if (!failed) console.error(`  ${scenario}: passes; take it out of expected-failures.yml`);
    }
    if (expected.has(scenario)) continue;
    for (const { status, id, errorMessage } of worse) {
        console.error(`  ${scenario}: ${status} ${id}: ${errorMessage ?? "no reason given"}`);
    }
    if (worse.length > 0 && !failed) console.log(scenario);
}
console.error(`${runs.length} scenarios judged, ${unexpected} not as expected`);
process.exitCode = runs.length > 0 && unexpected === 0 ? 0 : 1;
