// What the console's pages do in the browser: passkeys, times, what waits. No page needs it to be read.

const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const text = (buffer) => {
  let binary = "";
  for (const byte of new Uint8Array(buffer)) binary += String.fromCharCode(byte);
  return btoa(binary).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
};

async function post(path, value) {
  const token = document.querySelector("meta[name=form-token], input[name=form_token]");
  const headers = { "content-type": "application/json" };
  if (token) headers["x-form-token"] = token.value ?? token.content;
  const answered = await fetch(path, { method: "POST", headers, body: JSON.stringify(value) });
  const read = await answered.json().catch(() => ({}));
  if (!answered.ok) {
    const said = read.error ?? { name: `http_${answered.status}`, message: "the bank did not answer as expected", next_step: "reload the page" };
    throw Object.assign(new Error(`${said.name}: ${said.message}. ${said.next_step}.`), { name: said.name });
  }
  return read;
}

function creation(options) {
  return {
    ...options,
    challenge: bytes(options.challenge),
    user: { ...options.user, id: bytes(options.user.id) },
    excludeCredentials: (options.excludeCredentials ?? []).map((one) => ({ ...one, id: bytes(one.id) })),
  };
}

function request(options) {
  return {
    ...options,
    challenge: bytes(options.challenge),
    allowCredentials: (options.allowCredentials ?? []).map((one) => ({ ...one, id: bytes(one.id) })),
  };
}

const registered = (made) => ({
  id: made.id, rawId: text(made.rawId), type: made.type, extensions: made.getClientExtensionResults(),
  response: { attestationObject: text(made.response.attestationObject), clientDataJSON: text(made.response.clientDataJSON) },
});

const asserted = (made) => ({
  id: made.id, rawId: text(made.rawId), type: made.type, extensions: made.getClientExtensionResults(),
  response: {
    authenticatorData: text(made.response.authenticatorData), clientDataJSON: text(made.response.clientDataJSON),
    signature: text(made.response.signature), userHandle: made.response.userHandle ? text(made.response.userHandle) : null,
  },
});

async function enrol(said) {
  const token = location.hash.slice(1);
  const asked = await post("/enrol/start", { token });
  said(`Your device will ask you to make a passkey for ${asked.name} (${asked.roles.join(", ")}).`);
  const made = await navigator.credentials.create({ publicKey: creation(asked.publicKey) });
  const proof = await post("/enrol/registered", { ceremony: asked.ceremony, credential: registered(made) });
  said("Once more, to prove that it signs.");
  const signed = await navigator.credentials.get({ publicKey: request(proof.publicKey) });
  await post("/enrol/proven", { ceremony: proof.ceremony, credential: asserted(signed) });
  location.replace("/");
}

async function signIn() {
  const asked = await post("/sign-in/start", {});
  const signed = await navigator.credentials.get({ publicKey: request(asked.publicKey) });
  await post("/sign-in/finish", { ceremony: asked.ceremony, credential: asserted(signed) });
  if (location.pathname === "/sign-in") location.replace("/");
  else location.reload();
}

// Signs exactly the structure that the page shows.
async function speak(form, verdict) {
  const { approval, side, hash } = form.dataset;
  const asked = await post(`/approvals/${approval}/question`, { side, verdict });
  if (asked.document.transaction_hash !== hash) {
    throw new Error("The payment is not the one that this page shows: reload it and look again.");
  }
  const made = await navigator.credentials.get({
    publicKey: {
      challenge: bytes(asked.challenge), rpId: asked.rp_id, userVerification: "required", timeout: 120000,
      allowCredentials: [{ type: "public-key", id: bytes(asked.credential_id) }],
    },
  });
  const { authenticatorData, clientDataJSON, signature } = made.response;
  const note = form.querySelector("[name=note]")?.value ?? "";
  await post(`/approvals/${approval}/word`, {
    side, verdict, note, document: asked.document, authenticator_data: text(authenticatorData),
    client_data: text(clientDataJSON), signature: text(signature),
  });
  location.reload();
}

// What a form asks is signed before it is sent, where it says so.
async function sign(form) {
  const fields = new URLSearchParams(new FormData(form)).toString();
  const asked = await post("/act/question", { path: form.getAttribute("action"), fields });
  const made = await navigator.credentials.get({
    publicKey: {
      challenge: bytes(asked.challenge), rpId: asked.rp_id, userVerification: "required", timeout: 120000,
      allowCredentials: [{ type: "public-key", id: bytes(asked.credential_id) }],
    },
  });
  const { authenticatorData, clientDataJSON, signature } = made.response;
  const done = await post("/act/word", {
    document: asked.document, authenticator_data: text(authenticatorData), client_data: text(clientDataJSON), signature: text(signature),
  });
  location.assign(done.see);
}

function working(button, work) {
  const place = button.closest("form, section") ?? document.body;
  let said = place.querySelector("[data-said]");
  if (!said) {
    said = document.createElement("div");
    said.dataset.said = "";
    place.append(said);
  }
  const say = (message, isBad = false) => {
    said.className = isBad ? "notice bad" : "notice wait";
    said.setAttribute("role", isBad ? "alert" : "status");
    said.textContent = message;
  };
  const all = place.querySelectorAll("button");
  all.forEach((one) => (one.disabled = true));
  say("Waiting for your passkey.");
  work(say)
    .catch((error) => say(error.name === "NotAllowedError" ? "The passkey was not used: nothing was done." : error.message, true))
    .finally(() => all.forEach((one) => (one.disabled = false)));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-does]");
  if (!button) return;
  event.preventDefault();
  if (button.dataset.does === "enrol") working(button, enrol);
  if (button.dataset.does === "sign-in") working(button, signIn);
  if (button.dataset.does === "speak") working(button, () => speak(button.closest("form"), button.dataset.verdict));
});

document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-signed]");
  if (!form) return;
  event.preventDefault();
  working(form.querySelector("button[type=submit]"), () => sign(form));
});

// Times in the reader's zone; what ends soon counts down.
const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
function times(root) {
  for (const one of root.querySelectorAll("time[datetime]")) {
    const at = new Date(one.dateTime);
    if (!Number.isNaN(at.getTime())) {
      one.title = one.dateTime;
      one.textContent = format.format(at);
    }
  }
}
function countdown() {
  for (const one of document.querySelectorAll("[data-expires]")) {
    const left = Math.ceil((new Date(one.dataset.expires) - Date.now()) / 1000);
    const words = left <= 0 ? "expired" : left < 3600
      ? `${Math.floor(left / 60)} min ${String(left % 60).padStart(2, "0")} s left`
      : `${Math.floor(left / 3600)} h ${Math.floor((left % 3600) / 60)} min left`;
    if (one.textContent !== words) one.textContent = words;
    one.classList.toggle("soon", left < 600);
  }
}
times(document);
countdown();
setInterval(countdown, 1000);

// The inbox by keyboard: j and k go, Enter opens, a and d decide on an approval's own page.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  const rows = [...document.querySelectorAll(".inbox .card a.open")];
  if (rows.length && (event.key === "j" || event.key === "k")) {
    const here = rows.indexOf(document.activeElement);
    const to = event.key === "j" ? Math.min(here + 1, rows.length - 1) : Math.max(here - 1, 0);
    rows[to].focus();
    event.preventDefault();
  }
  const decides = { a: "approve", d: "deny" }[event.key];
  const button = decides && document.querySelector(`button[data-does=speak][data-verdict=${decides}]`);
  if (button) {
    button.focus();
    event.preventDefault();
  }
});

// Our own pages alone are parsed, and without running anything in them.
const markup = window.trustedTypes?.createPolicy("console", { createHTML: (text) => text }) ?? { createHTML: (text) => text };

// What waits is live: the page is read again when something changed, unless somebody is at work on it.
const live = document.querySelector("[data-live]");
if (live) {
  const stream = new EventSource(live.dataset.live);
  let known = null;
  stream.addEventListener("changed", async (event) => {
    const count = document.querySelector("[data-waiting]");
    if (count) {
      const waiting = JSON.parse(event.data).waiting ?? 0;
      count.hidden = waiting === 0;
      count.textContent = waiting;
    }
    if (known !== null && known !== event.data) {
      const read = await fetch(location.href, { headers: { accept: "text/html" } });
      if (read.ok) {
        const fresh = new DOMParser().parseFromString(markup.createHTML(await read.text()), "text/html").querySelector("[data-live]");
        const focused = document.activeElement?.getAttribute("href");
        if (fresh && !live.contains(document.activeElement?.closest("form"))) {
          live.replaceChildren(...fresh.childNodes);
          times(live);
          countdown();
          if (focused) live.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
        }
      }
    }
    known = event.data;
  });
}
