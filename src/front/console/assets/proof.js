// Computes in this browser that what a leaf says is in the log: from body and salt to the leaf, from the leaf to the root
// (RFC 9162, 2.1.3.2), and that the checkpoint has that root and is signed by the key of its certificate.

const unbase64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const concat = (...parts) => {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
};
const sha256 = async (...parts) => new Uint8Array(await crypto.subtle.digest("SHA-256", concat(...parts)));
const utf8 = (text) => new TextEncoder().encode(text);
const same = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);

// One element of DER: where its content begins and ends.
function der(bytes, at) {
  let length = bytes[at + 1], begin = at + 2;
  if (length & 0x80) {
    const count = length & 0x7f;
    length = 0;
    for (let i = 0; i < count; i++) length = length * 256 + bytes[begin + i];
    begin += count;
  }
  return { tag: bytes[at], at, begin, end: begin + length };
}

// The SubjectPublicKeyInfo of a certificate (RFC 5280, 4.1).
function spki(certificate) {
  const tbs = der(certificate, der(certificate, 0).begin);
  let at = tbs.begin;
  const fields = [];
  while (at < tbs.end) {
    const field = der(certificate, at);
    fields.push(field);
    at = field.end;
  }
  const place = fields[0].tag === 0xa0 ? 6 : 5;
  return certificate.slice(fields[place].at, fields[place].end);
}

async function rootOf(leaf, index, size, path) {
  let node = index, last = size - 1n, hash = leaf, used = 0;
  for (const sibling of path) {
    if (last === 0n) throw new Error("the path is too long");
    if (node & 1n || node === last) {
      hash = await sha256(Uint8Array.of(1), sibling, hash);
      while (!(node & 1n) && node !== 0n) { node >>= 1n; last >>= 1n; }
    } else {
      hash = await sha256(Uint8Array.of(1), hash, sibling);
    }
    node >>= 1n;
    last >>= 1n;
    used++;
  }
  if (last !== 0n || used !== path.length) throw new Error("the path is too short");
  return hash;
}

// An ECDSA signature as r ‖ s.
function raw(signature) {
  const outer = der(signature, 0), r = der(signature, outer.begin), s = der(signature, r.end);
  const whole = (part) => {
    const bytes = signature.slice(part.begin, part.end);
    const cut = bytes.length > 32 ? bytes.slice(bytes.length - 32) : bytes;
    return concat(new Uint8Array(32 - cut.length), cut);
  };
  return concat(whole(r), whole(s));
}

async function isSigned(key, signature, text) {
  const isEd25519 = key.length === 44;
  const algorithm = isEd25519 ? { name: "Ed25519" } : { name: "ECDSA", namedCurve: "P-256" };
  const imported = await crypto.subtle.importKey("spki", key, algorithm, false, ["verify"]);
  const how = isEd25519 ? { name: "Ed25519" } : { name: "ECDSA", hash: "SHA-256" };
  return crypto.subtle.verify(how, imported, isEd25519 ? signature : raw(signature), text);
}

async function verify(file) {
  const [head, ...rest] = file.split("\n\n");
  const checkpoint = rest.join("\n\n");
  const lines = head.split("\n");
  if (lines[0] !== "c2sp.org/tlog-proof@v1") throw new Error("it is no proof");
  const extra = JSON.parse(new TextDecoder().decode(unbase64(lines[1].slice("extra ".length))));
  const index = BigInt(lines[2].slice("index ".length));
  const path = lines.slice(3).map(unbase64);
  const salt = /^[0-9a-f]{64}$/.test(extra.salt) ? Uint8Array.from(extra.salt.match(/../g), (pair) => parseInt(pair, 16)) : unbase64(extra.salt);
  const commitment = await sha256(salt, utf8(extra.body));
  const entry = concat(utf8("countersign/leaf/v1\n"), commitment);
  const leaf = await sha256(Uint8Array.of(0), entry);
  const [text, signatures] = checkpoint.split("\n\n");
  const [origin, size, root] = text.split("\n");
  const computed = await rootOf(leaf, index, BigInt(size), path);
  if (!same(computed, unbase64(root))) throw new Error("the leaf does not lead to the checkpoint’s root");
  const certificate = unbase64(extra.chain[0]);
  const line = signatures.split("\n").find((one) => one.startsWith(`— ${origin} `));
  const signature = unbase64(line.split(" ")[2]).slice(4);
  const signed = await isSigned(spki(certificate), signature, utf8(text + "\n")).catch(() => null);
  return { index, size, root: hex(computed), origin, signed, commitment: hex(commitment), cosignatures: signatures.trim().split("\n").length - 1 };
}

const section = document.querySelector("[data-leaf]");
if (section) {
  const said = section.querySelector("[data-proof]");
  fetch(`/audit/leaf/${section.dataset.leaf}/proof`)
    .then(async (answered) => {
      if (!answered.ok) throw new Error("no signed checkpoint covers it yet, or what it says was erased");
      return verify(await answered.text());
    })
    .then((proof) => {
      said.className = proof.signed === false ? "notice bad" : "notice";
      const by = proof.signed === null ? "this browser cannot verify the checkpoint’s signature itself" : proof.signed
        ? `the checkpoint is signed by the log’s key and ${proof.cosignatures} witness signature${proof.cosignatures === 1 ? " stands" : "s stand"} below it`
        : "the checkpoint’s signature is NOT valid";
      said.textContent = `Computed in your browser: leaf ${proof.index} with commitment ${proof.commitment.slice(0, 16)}… is in the tree of ${proof.size} leaves with root ${proof.root.slice(0, 16)}… of ${proof.origin}; ${by}.`;
      said.dataset.verified = String(proof.signed !== false);
    })
    .catch((error) => {
      said.className = "notice bad";
      said.textContent = `Not verified: ${error.message}.`;
      said.dataset.verified = "false";
    });
}
