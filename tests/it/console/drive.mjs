// Drives Chromium for tests/it/console.rs: one JSON command a line in, one JSON answer a line out. A person is a browser of their
// own: its own profile, its own virtual authenticator, the bank's root in its own NSS database.
import { execFileSync } from "node:child_process";
import { readFileSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import https from "node:https";
import readline from "node:readline";

const [tools, home, base, root] = process.argv.slice(2);
const require = createRequire(`${tools}/node_modules/`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const people = new Map();

async function open(name, options) {
  const own = `${home}/${name}`;
  const database = `sql:${own}/.pki/nssdb`;
  mkdirSync(`${own}/.pki/nssdb`, { recursive: true });
  execFileSync("certutil", ["-N", "-d", database, "--empty-password"]);
  execFileSync("certutil", ["-A", "-d", database, "-t", "C,,", "-n", "bank", "-i", root]);
  const context = await chromium.launchPersistentContext(`${own}/profile`, {
    executablePath: "/usr/bin/chromium", headless: true, env: { ...process.env, HOME: own },
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
    ...options,
  });
  const page = context.pages()[0] ?? (await context.newPage());
  const person = { context, page, dialogs: 0, problems: [] };
  page.on("dialog", (dialog) => { person.dialogs += 1; dialog.dismiss(); });
  page.on("pageerror", (error) => person.problems.push(error.message));
  page.on("console", (message) => { if (message.type() === "error") person.problems.push(message.text()); });
  person.session = await context.newCDPSession(page);
  await person.session.send("WebAuthn.enable");
  const made = await person.session.send("WebAuthn.addVirtualAuthenticator", { options: {
    protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true,
    automaticPresenceSimulation: true,
  } });
  person.authenticator = made.authenticatorId;
  people.set(name, person);
}

// A request that no browser sends: any headers, any cookie.
function raw({ path, method = "GET", headers = {}, body = "" }) {
  const url = new URL(path, base);
  return new Promise((resolve, reject) => {
    const framed = body ? { ...headers, "content-length": Buffer.byteLength(body) } : headers;
    const asked = https.request(url, { method, headers: framed, agent: false, ca: readFileSync(root) }, (answered) => {
      let text = "";
      answered.setEncoding("utf8");
      answered.on("data", (part) => (text += part));
      answered.on("end", () => resolve({ status: answered.statusCode, headers: answered.headers, body: text }));
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

const commands = {
  open: ({ person, options }) => open(person, options),
  raw,
  async goto({ person, path }) {
    const { page } = people.get(person);
    const answered = await page.goto(new URL(path, base).href);
    return { status: answered?.status(), url: page.url(), title: await page.title(), text: await page.innerText("body"), html: await page.content() };
  },
  async page({ person }) {
    const { page } = people.get(person);
    return { url: page.url(), title: await page.title(), text: await page.innerText("body"), html: await page.content() };
  },
  async click({ person, selector }) { await people.get(person).page.click(selector, { timeout: 15000 }); },
  async fill({ person, selector, value }) { await people.get(person).page.fill(selector, value, { timeout: 15000 }); },
  async choose({ person, selector }) { await people.get(person).page.check(selector, { timeout: 15000 }); },
  async press({ person, key }) { await people.get(person).page.keyboard.press(key); },
  // Until the page has this text, whatever is loaded meanwhile.
  async until({ person, text, selector }) {
    const { page } = people.get(person);
    if (selector) await page.waitForSelector(selector, { timeout: 30000 });
    if (text) await page.waitForFunction((wanted) => document.body?.innerText.includes(wanted), text, { timeout: 30000, polling: 50 });
    return { url: page.url(), text: await page.innerText("body") };
  },
  async enrol({ person, link }) {
    const { page } = people.get(person);
    await page.goto(link);
    await page.click("button[data-does=enrol]");
    await page.waitForFunction(() => !location.pathname.startsWith("/enrol") || document.querySelector(".notice.bad"), null, { timeout: 30000 });
    return { url: page.url(), said: await page.locator(".notice.bad").allInnerTexts() };
  },
  async signIn({ person, path }) {
    const { page } = people.get(person);
    await page.goto(new URL(path, base).href);
    await page.click("button[data-does=sign-in]");
    await page.waitForFunction(() => document.querySelector("nav") || document.querySelector("[data-said].notice.bad"), null, { timeout: 30000 });
    return { url: page.url(), said: await page.locator("[data-said].notice.bad").allInnerTexts() };
  },
  // What the page's own script does, with every answer in between told.
  async speak({ person, approval, side, verdict, sendAs, bend }) {
    const { page } = people.get(person);
    return page.evaluate(async ({ approval, side, verdict, sendAs, bend }) => {
      const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
      const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
      const token = document.querySelector("input[name=form_token]").value;
      const post = async (path, value) => {
        const answered = await fetch(path, { method: "POST", headers: { "content-type": "application/json", "x-form-token": token }, body: JSON.stringify(value) });
        return { status: answered.status, body: await answered.json() };
      };
      const asked = await post(`/approvals/${approval}/question`, { side, verdict });
      if (asked.status !== 200) return asked;
      const made = await navigator.credentials.get({ publicKey: {
        challenge: bytes(asked.body.challenge), rpId: asked.body.rp_id, userVerification: "required",
        allowCredentials: [{ type: "public-key", id: bytes(asked.body.credential_id) }],
      } });
      const word = {
        side, verdict: sendAs ?? verdict, note: "", document: asked.body.document, authenticator_data: text(made.response.authenticatorData),
        client_data: text(made.response.clientDataJSON), signature: text(made.response.signature),
      };
      for (const [name, value] of Object.entries(bend ?? {})) word.document[name] = value;
      const answered = await post(`/approvals/${approval}/word`, word);
      return { ...answered, word, token };
    }, { approval, side, verdict, sendAs, bend });
  },
  async post({ person, path, body, token }) {
    const { page } = people.get(person);
    return page.evaluate(async ({ path, body, token }) => {
      const said = token ?? document.querySelector("input[name=form_token]")?.value ?? "";
      const answered = await fetch(path, { method: "POST", headers: { "content-type": "application/json", "x-form-token": said }, body: JSON.stringify(body) });
      return { status: answered.status, body: await answered.json().catch(() => null) };
    }, { path, body, token });
  },
  // Has the page listen to a stream, and tells what came until an event of this name.
  async listen({ person, path }) {
    const { page } = people.get(person);
    await page.evaluate((path) => {
      window.heard = [];
      window.stream = new EventSource(path);
      for (const name of ["changed", "ended"]) window.stream.addEventListener(name, (event) => window.heard.push([name, event.data]));
      window.stream.onmessage = (event) => window.heard.push(["message", event.data]);
    }, path);
  },
  async heard({ person, name }) {
    const { page } = people.get(person);
    await page.waitForFunction((name) => window.heard.some(([one]) => one === name), name, { timeout: 30000, polling: 50 });
    return page.evaluate(() => window.heard);
  },
  async cookies({ person }) { return people.get(person).context.cookies(); },
  async agent({ person }) { return people.get(person).page.evaluate(() => navigator.userAgent); },
  async unverified({ person, is }) {
    const { session, authenticator } = people.get(person);
    await session.send("WebAuthn.setUserVerified", { authenticatorId: authenticator, isUserVerified: !is });
  },
  async size({ person, width, height }) { await people.get(person).page.setViewportSize({ width, height }); },
  async scheme({ person, scheme }) { await people.get(person).page.emulateMedia({ colorScheme: scheme }); },
  async picture({ person, file }) { await people.get(person).page.screenshot({ path: file }); },
  // Breaches of WCAG 2.2 A and AA that can be found by machine.
  async axe({ person }) {
    const { page } = people.get(person);
    const found = await page.evaluate(`(() => { const module = undefined; ${axe}; return axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }); })()`);
    return found.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html.slice(0, 160)).slice(0, 3).join(" | ")}`);
  },
  async overflows({ person }) { return people.get(person).page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth); },
  async problems({ person }) {
    const one = people.get(person);
    return { dialogs: one.dialogs, problems: one.problems, injected: await one.page.evaluate(() => Boolean(window.__xss)) };
  },
  async close() { for (const { context } of people.values()) await context.close(); },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { command, ...rest } = JSON.parse(line);
  let answer;
  try {
    answer = { ok: (await commands[command](rest)) ?? null };
  } catch (error) {
    const page = people.get(rest.person)?.page;
    answer = { error: String(error).slice(0, 600), url: page?.url(), text: (await page?.innerText("body").catch(() => ""))?.slice(0, 600) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
