// Judges what the suite ran and does not score: extensions, and what came after the revision. Words: where the results
// are. Fails for each scenario with a failure that is not in expected-failures.yml, and if there is nothing to judge.
import { readFileSync, readdirSync } from "node:fs";

const [results] = process.argv.slice(2);
const baseline = readFileSync(new URL("expected-failures.yml", import.meta.url), "utf8");
const expected = new Set([...baseline.matchAll(/^\s+- (\S+)$/gm)].map(([, name]) => name));
const runs = readdirSync(results);
let unexpected = 0;
for (const run of runs) {
    const scenario = run.replace(/^server-/, "").replace(/-\d{4}-\d\d-\d\dT.*$/, "");
    const checks = JSON.parse(readFileSync(`${results}/${run}/checks.json`, "utf8"));
    const failed = checks.filter(({ status }) => status === "FAILURE");
    if (failed.length === 0 || expected.has(scenario)) continue;
    unexpected += 1;
    for (const { id, errorMessage } of failed) console.error(`  ${scenario}: ${id}: ${errorMessage ?? "failed"}`);
}
console.log(`${runs.length} scenarios judged, ${unexpected} with failures that nobody expects`);
process.exitCode = runs.length > 0 && unexpected === 0 ? 0 : 1;
