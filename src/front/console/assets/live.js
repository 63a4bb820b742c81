// The live view: figures from one stream, charts from columns that are asked for and go on with the stream.
//
// What nobody knows is null and stays a gap; nothing is drawn as zero that was not counted.

const root = document.getElementById("live");
const plotted = globalThis.uPlot;

/** After so long without a snapshot what is shown is old. */
const SILENT_MS = 5000;
/** Between two attempts to reach a stream that the browser has given up. */
const AGAIN_MS_FIRST = 1000;
const AGAIN_MS_MAX = 30000;
/** Columns are asked for anew this often: what came late is in them. */
const COLUMNS_MS = 60000;
const PLOT_HEIGHT = 200;
const UNKNOWN = "–";

const language = document.documentElement.lang || "en";
const decimal = new Intl.NumberFormat(language, { maximumFractionDigits: 2 });
const whole = new Intl.NumberFormat(language);
const clock = new Intl.DateTimeFormat(language, { timeStyle: "medium" });
const calendar = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });

/** Outcomes as lines, each with a dash of its own: colour is not all that tells them apart. */
const OUTCOMES = [
  ["executed", "executed"],
  ["approved", "approved"],
  ["requires_approval", "requires approval"],
  ["queued_manual", "queued for people"],
  ["denied", "denied"],
  ["refused", "refused"],
];
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [4, 4], [14, 4]];

/** What each chart draws: its lines, each with how it is read from columns, and the sentence below. */
const CHARTS = {
  posted: {
    lines: () => [["transactions a second", (columns) => rates(columns, columns.posted)]],
    sentence: (columns) => `${whole.format(sum(columns.posted))} transactions.`,
  },
  decisions: {
    lines: () => OUTCOMES.map(([name, words]) => [words, (columns) => rates(columns, decided(columns, name))]),
    sentence: (columns) =>
      Object.keys(columns.decisions)
        .map((name) => `${name.replaceAll("_", " ")} ${whole.format(sum(columns.decisions[name]))}`)
        .join(", ") + ".",
  },
  latency: {
    lines: () => ["p50", "p95", "p99"].map((name) => [`${name} ms`, (columns) => columns[name]]),
    sentence: (columns) => `${whole.format(sum(columns.calls))} calls; p99 at most ${decimal.format(most(columns.p99))} ms.`,
  },
  signatures: {
    lines: () => [["signatures a second", (columns) => columns.signatures]],
    sentence: (columns) => `At most ${decimal.format(most(columns.signatures))} a second.`,
  },
  agents: {
    lines: () => [["connected agents", (columns) => columns.agents]],
    sentence: (columns) => `At most ${whole.format(most(columns.agents))} at once.`,
  },
};

const known = (value) => value !== null && value !== undefined;
const sum = (column) => column.reduce((total, value) => total + (value ?? 0), 0);
const most = (column) => column.reduce((greatest, value) => Math.max(greatest, value ?? 0), 0);
const said = (value, format) => (known(value) ? format.format(value) : UNKNOWN);
const find = (part, name) => part.querySelector(`[data-${name}]`);

/** Counts a bucket as rates a second; the newest bucket is not over yet. */
function rates(columns, counts) {
  const last = counts.length - 1;
  return counts.map((count, place) =>
    known(count) ? count / (place === last ? columns.newest_s : columns.step_s) : null,
  );
}

/** An outcome that there was none of has no column: it is zero wherever anything is known. */
function decided(columns, name) {
  return columns.decisions[name] ?? columns.posted.map((count) => (known(count) ? 0 : null));
}

function token(name) {
  return getComputedStyle(root).getPropertyValue(name).trim();
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function cells(row, name, texts) {
  row.replaceChildren(
    ...texts.map((text, place) => {
      const cell = element(place === 0 ? "th" : name, text);
      if (name === "th") cell.scope = "col";
      else if (place === 0) cell.scope = "row";
      return cell;
    }),
  );
  return row;
}

// One chart with its sentence and its table.

class Chart {
  constructor(figure) {
    this.figure = figure;
    this.kind = CHARTS[figure.dataset.chart];
    this.plot = find(figure, "plot");
    this.details = figure.querySelector("details");
    this.drawn = null;
    this.columns = null;
    this.details.addEventListener("toggle", () => this.details.open && this.table());
    find(figure, "again").addEventListener("click", () => this.table());
    new ResizeObserver(() => this.drawn?.setSize(this.size())).observe(figure);
  }

  size() {
    return { width: Math.max(this.plot.clientWidth, 1), height: PLOT_HEIGHT };
  }

  data() {
    return [this.columns.t, ...this.kind.lines().map(([, read]) => read(this.columns))];
  }

  show(columns, reading) {
    this.columns = columns;
    const [times, ...lines] = this.data();
    const nothing = lines.every((line) => line.every((value) => !value));
    const gaps = times.filter((_, place) => lines.every((line) => !known(line[place]))).length;
    const empty = find(this.figure, "empty");
    const unknown = gaps === times.length && this.figure.dataset.chart !== "latency";
    this.plot.hidden = nothing;
    empty.hidden = !nothing;
    empty.textContent = unknown ? notKnown(reading) : empty.dataset.words;
    find(this.figure, "summary").textContent = this.sentence(columns, nothing, unknown, gaps);
    if (nothing) return;
    if (this.drawn) this.drawn.setData([times, ...lines]);
    else this.draw();
  }

  sentence(columns, nothing, unknown, gaps) {
    const parts = nothing ? [] : [this.kind.sentence(columns)];
    // Without a call there is no time that it took: that is no gap in what is known.
    if (!unknown && gaps > 0 && this.figure.dataset.chart !== "latency") {
      const since = columns.known_since;
      const seen = ["posted", "decisions"].includes(this.figure.dataset.chart) && since && Date.parse(since) > columns.from * 1000;
      parts.push(seen ? `Known since ${calendar.format(new Date(since))}.` : "Gaps are times of which nothing is known.");
    }
    return parts.join(" ");
  }

  draw() {
    this.drawn?.destroy();
    const ink = token("--ink") || "CanvasText";
    const axis = { stroke: ink, grid: { stroke: token("--line"), width: 1 }, ticks: { stroke: token("--line"), width: 1 } };
    const lines = this.kind.lines().map(([label], place) => ({
      label,
      stroke: token(`--c${place + 1}`) || ink,
      width: 2,
      dash: DASHES[place],
      spanGaps: false,
      value: (_, value) => said(value, decimal),
    }));
    const options = {
      ...this.size(),
      series: [{ label: "time", value: (_, time) => (known(time) ? calendar.format(new Date(time * 1000)) : UNKNOWN) }, ...lines],
      axes: [axis, { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => decimal.format(tick)) }],
      scales: { y: { range: (_, least, greatest) => [0, greatest > 0 ? greatest * 1.1 : 1] } },
      cursor: { drag: { x: false, y: false } },
    };
    this.drawn = new plotted(options, this.data(), this.plot);
  }

  /** Colours or the part's width have changed. */
  redraw() {
    if (this.drawn && this.columns && !this.plot.hidden) this.draw();
  }

  /** Made when somebody asks, and left alone while it is read. */
  table() {
    if (!this.columns) return;
    const [times, ...lines] = this.data();
    find(this.figure, "as-of").textContent = `As of ${calendar.format(new Date())}, newest first.`;
    cells(find(this.figure, "columns"), "th", ["Time", ...this.kind.lines().map(([label]) => label)]);
    const rows = times.map((time, place) =>
      cells(document.createElement("tr"), "td", [
        calendar.format(new Date(time * 1000)),
        ...lines.map((line) => said(line[place], decimal)),
      ]),
    );
    find(this.figure, "rows").replaceChildren(...rows.reverse());
  }
}

function notKnown(reading) {
  if (!reading) return "Nothing is known about this time.";
  const part = reading.of > 0 ? ` (${Math.floor((100 * reading.leaves) / reading.of)} %)` : "";
  return `Not known yet: the audit log is being read${part}.`;
}

// The cards.

const CARDS = {
  posted: ({ rate }) => ({
    figure: said(known(rate.posted) ? rate.posted / rate.seconds : null, decimal),
    note: known(rate.posted) ? `over ${rate.seconds} seconds` : "not known yet",
  }),
  decisions: ({ minute }) => {
    if (!minute.decisions) return { figure: UNKNOWN, note: "not known yet" };
    const some = Object.entries(minute.decisions).filter(([, count]) => count > 0);
    return {
      figure: whole.format(some.reduce((total, [, count]) => total + count, 0)),
      note: some.map(([name, count]) => `${name.replaceAll("_", " ")} ${whole.format(count)}`).join(", ") || "none",
    };
  },
  latency: ({ minute }) =>
    known(minute.p50)
      ? {
          figure: `${decimal.format(minute.p50)} ms`,
          note: `half of them; 95 of 100: ${decimal.format(minute.p95)} ms, 99 of 100: ${decimal.format(minute.p99)} ms`,
        }
      : { figure: UNKNOWN, note: known(minute.calls) ? "no calls in the last minute" : "not known yet" },
  hsm: ({ hsm }) => ({
    figure: hsm.state,
    note: hsm.reason ? `${hsm.reason.message}; ${hsm.reason.next_step}` : `${hsm.workers} workers answer`,
    tone: { up: "good", degraded: "warn", probing: "warn", down: "bad" }[hsm.state],
  }),
  signatures: ({ rate }) => ({
    figure: said(rate.signatures, decimal),
    note: known(rate.signatures) ? `over ${rate.seconds} seconds` : "not known yet",
  }),
  agents: ({ agents, missing }) => ({
    figure: whole.format(agents),
    note: missing.length ? `agents are not served: ${missing.join("; ")}` : "",
    tone: missing.length ? "warn" : "good",
  }),
  breaker: ({ breaker }) => {
    if (!breaker) return { figure: UNKNOWN, note: "not known" };
    if (!breaker.stopped) return { figure: "are made", note: "no cause stands", tone: "good" };
    const causes = breaker.causes.map((cause) => `${cause.cause}: ${cause.next_step ?? cause.reason}`);
    return { figure: "are stopped", note: `${breaker.state}; ${causes.join("; ")}`, tone: "bad" };
  },
  waiting: ({ waiting }) => ({
    figure: said(waiting?.cases, whole),
    note: waiting?.orders ? `${whole.format(waiting.orders)} orders wait for the core` : "",
    tone: waiting?.cases ? "warn" : "good",
  }),
  alerts: ({ alerts }) => ({
    figure: known(alerts.day) ? whole.format(alerts.day) : `${whole.format(alerts.known)} or more`,
    note: known(alerts.day) ? "" : "the log is not known for all of that time",
    tone: alerts.known ? "warn" : "good",
  }),
};

/** Cards and charts about payments: another party than a bank makes none. */
const OF_BANKS = ["posted", "decisions", "latency", "breaker", "waiting"];

const charts = [...root.querySelectorAll("[data-chart]")].map((figure) => new Chart(figure));
const cards = [...root.querySelectorAll("[data-card]")];
const state = document.getElementById("live-state");
const announced = document.getElementById("live-said");

let snapshot = null;
let columns = null;
let heardAt = 0;

function tell(name, words) {
  if (state.dataset.state === name && name !== "live") return;
  // Going on as before is nothing to announce.
  if (state.dataset.state !== name && name !== "live") announced.textContent = words;
  state.dataset.state = name;
  state.textContent = words;
}

function fill(part, value) {
  if (part.textContent !== value) part.textContent = value;
}

function showFigures() {
  for (const card of cards) {
    const name = card.dataset.card;
    card.hidden = snapshot.kind !== "bank" && OF_BANKS.includes(name);
    const { figure, note, tone = "good" } = CARDS[name](snapshot);
    fill(find(card, "figure"), figure);
    fill(find(card, "note"), note);
    card.dataset.tone = tone;
  }
  for (const { figure } of charts) {
    figure.hidden = snapshot.kind !== "bank" && OF_BANKS.includes(figure.dataset.chart);
  }
  const reading = document.getElementById("live-reading");
  reading.hidden = !snapshot.reading;
  fill(reading, snapshot.reading ? notKnown(snapshot.reading) : "");
  showAlerts(snapshot.alerts);
}

function listed(part, items, none, make) {
  const rows = find(part, "rows");
  const holder = rows.closest("table") ?? rows;
  holder.hidden = items.length === 0;
  const empty = find(part, "empty");
  empty.hidden = items.length > 0;
  empty.textContent = none;
  const text = JSON.stringify(items);
  // What is the same stays in place: somebody may be reading it.
  if (rows.dataset.shown === text) return;
  rows.dataset.shown = text;
  rows.replaceChildren(...items.map(make));
}

function showAlerts(alerts) {
  const none = known(alerts.day) ? "No alerts." : "None since the log is known here.";
  listed(find(root, "alerts"), alerts.items, none, (alert) =>
    element("li", `${calendar.format(new Date(alert.at))}: ${alert.kind}, ${alert.about}: ${alert.said}`),
  );
}

function showRefusals() {
  const none = columns.posted.some(known) ? "No refusals in this time." : notKnown(snapshot?.reading);
  listed(find(root, "refusals"), columns.refusals, none, ({ name, count }) =>
    cells(document.createElement("tr"), "td", [name, whole.format(count)]),
  );
}

/** What somebody who does not look at the page has to hear. */
function announce(before, now) {
  if (!before) return;
  const news = [];
  if (before.hsm.state !== now.hsm.state) news.push(`HSM ${now.hsm.state}.`);
  if (before.breaker?.stopped !== now.breaker?.stopped && now.breaker) {
    news.push(now.breaker.stopped ? "Payments are stopped." : "Payments are made again.");
  }
  const newest = now.alerts.items[0];
  if (newest && newest.at !== before.alerts.items[0]?.at) news.push(`Alert: ${newest.about}: ${newest.said}`);
  if (news.length) announced.textContent = news.join(" ");
}

function showColumns() {
  if (!columns) return;
  charts.forEach((chart) => chart.show(columns, snapshot?.reading));
  showRefusals();
  const unread = document.getElementById("live-unread");
  unread.hidden = !columns.unread;
  fill(unread, columns.unread ? `${whole.format(columns.unread)} leaves of this time cannot be read any more and are in no figure.` : "");
}

// The columns.

let asking = null;
let columnsTimer = 0;

function range() {
  return root.querySelector("input[name=live-range]:checked").value;
}

async function askColumns() {
  clearTimeout(columnsTimer);
  asking?.abort();
  const mine = (asking = new AbortController());
  const again = () => {
    // Not all pages at the same moment.
    if (!document.hidden) columnsTimer = setTimeout(askColumns, COLUMNS_MS * (0.9 + Math.random() / 5));
  };
  try {
    const answer = await fetch(`${root.dataset.series}?range=${encodeURIComponent(range())}`, {
      signal: mine.signal,
      redirect: "error",
      cache: "no-store",
    });
    if (answer.status === 401 || answer.status === 403) return end();
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const found = await answer.json();
    if (mine.signal.aborted) return;
    columns = found;
    showColumns();
    again();
  } catch {
    if (!mine.signal.aborted) again();
  }
}

/** Columns of seconds go on with the stream; others are asked for. */
function goOn(second) {
  if (!columns || columns.step_s !== 1) return;
  const last = columns.t.at(-1);
  if (second.t <= last) return;
  if (second.t > last + 1) {
    columns = null;
    askColumns();
    return;
  }
  const push = (column, value) => {
    column.push(known(value) ? value : null);
    column.shift();
  };
  push(columns.t, second.t);
  for (const name of ["posted", "alerts", "p50", "p95", "p99", "calls", "signatures", "agents"]) {
    push(columns[name], second[name]);
  }
  const before = columns.posted.map((count) => (known(count) ? 0 : null));
  for (const [name, count] of Object.entries(second.decisions ?? {})) {
    // Its column as it was, one place further on; the newest place is filled below.
    if (count > 0) columns.decisions[name] ??= [0, ...before.slice(0, -1)];
  }
  for (const name of Object.keys(columns.decisions)) push(columns.decisions[name], second.decisions?.[name]);
  columns.from = columns.t[0];
  for (const { name, count } of second.refusals ?? []) {
    const one = columns.refusals.find((refusal) => refusal.name === name);
    if (one) one.count += count;
    else columns.refusals.push({ name, count });
  }
  columns.refusals.sort((one, other) => other.count - one.count);
  showColumns();
}

// The stream.

let stream = null;
let streamTimer = 0;
let pause = AGAIN_MS_FIRST;

function close() {
  clearTimeout(streamTimer);
  stream?.close();
  stream = null;
}

function end() {
  close();
  clearTimeout(columnsTimer);
  tell("ended", "You are not signed in any more. Load the page again to sign in.");
}

function lost() {
  tell("lost", "Connection lost, trying again.");
}

function open() {
  close();
  stream = new EventSource(root.dataset.stream);
  stream.onmessage = (event) => {
    let told;
    try {
      told = JSON.parse(event.data);
    } catch {
      return;
    }
    // Before the first turn of a daemon there is nothing to show.
    if (!told.at) return;
    heardAt = Date.now();
    pause = AGAIN_MS_FIRST;
    const before = snapshot;
    snapshot = told;
    tell("live", `As of ${clock.format(new Date(told.at))}.`);
    showFigures();
    announce(before, told);
    goOn(told.second);
  };
  stream.onerror = () => {
    lost();
    // The browser tries again by itself, unless it was answered with an error.
    if (stream?.readyState !== EventSource.CLOSED) return;
    close();
    streamTimer = setTimeout(open, pause * (0.75 + Math.random() / 2));
    pause = Math.min(pause * 2, AGAIN_MS_MAX);
    // Says whether somebody is still signed in.
    askColumns();
  };
}

function begin() {
  heardAt = Date.now();
  open();
  askColumns();
}

document.addEventListener("visibilitychange", () => {
  if (state.dataset.state === "ended") return;
  if (document.hidden) {
    close();
    clearTimeout(columnsTimer);
    tell("paused", "Paused while the page is hidden.");
  } else {
    begin();
  }
});
setInterval(() => {
  if (!document.hidden && stream && Date.now() - heardAt > SILENT_MS) lost();
}, 1000);
root.querySelectorAll("input[name=live-range]").forEach((input) => input.addEventListener("change", askColumns));
const redraw = () => charts.forEach((chart) => chart.redraw());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
new MutationObserver(redraw).observe(document.documentElement, { attributes: true, attributeFilter: ["class", "data-theme"] });
if (!document.hidden) begin();
