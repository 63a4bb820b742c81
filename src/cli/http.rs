//! `countersign http`: signs and verifies messages of HTTP of other programs (RFC 9421).

use std::path::PathBuf;

use serde_json::json;

use crate::cli::context::Context;
use crate::cli::sign::{digest, socket};
use crate::cli::table::cell;
use crate::cli::verify_signature::public_key;
use crate::kernel::httpsig::{ExpectedMessage, Message, MessageRefusal, content_digest_of, verify_message};
use crate::kernel::types::Sha256;
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::signing::client::Client;

/// A clock of another machine may be ahead by so much.
const SKEW_MAX_S: i64 = 5;

/// Sign and verify HTTP messages of your own programs (RFC 9421).
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Only a key whose [[signing.key]] names the kind `request` signs messages.

Examples:
  countersign http sign --key api --method POST --url https://api.example/orders --body order.json
  countersign http verify --key api.jwk --url https://api.example/orders --method POST \\
    --header 'Signature-Input: …' --header 'Signature: …' --body order.json")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand, Debug)]
enum Verb {
    /// Print the headers that carry a signature over a message.
    #[command(after_help = "\
Examples:
  countersign http sign --key api --method GET --url https://api.example/orders
  countersign http sign --key api --method POST --url https://api.example/orders \\
    --header 'Content-Type: application/json' --body order.json --tag orders --expires-in-s 60
  countersign http sign --key api --status 200 --body answer.json \\
    --component @status --component content-digest")]
    Sign {
        /// The key's name, as [[signing.key]] of the daemon has it.
        #[arg(long, value_name = "NAME")]
        key: String,
        #[command(flatten)]
        message: MessageArgs,
        /// What is covered, in this order. Without it: @method and @target-uri (or @status), every --header, and
        /// content-digest when there is a body.
        #[arg(long = "component", value_name = "COMPONENT")]
        components: Vec<String>,
        /// The signature's name among others.
        #[arg(long, value_name = "WORD")]
        label: Option<String>,
        /// What the signature is for, so that it counts for nothing else.
        #[arg(long, value_name = "TEXT")]
        tag: Option<String>,
        /// Without it: 32 random bytes.
        #[arg(long, value_name = "TEXT")]
        nonce: Option<String>,
        /// From now on; without it as long as the key's configuration lets it live.
        #[arg(long, value_name = "SECONDS")]
        expires_in_s: Option<u32>,
        /// Asking again with it answers the same signature.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
        /// The service's socket, where it is not the one of the state directory's configuration.
        #[arg(long, value_name = "PATH")]
        socket: Option<PathBuf>,
    },
    /// Verify the signature of a message with a public key alone: exit code 3 when a rule refuses it.
    #[command(after_help = "\
Examples:
  countersign http verify --key api.pem --method GET --url https://api.example/orders \\
    --header 'Signature-Input: …' --header 'Signature: …'
  countersign http verify --key api.jwk --status 200 --header 'Signature-Input: …' \\
    --header 'Signature: …' --header 'Content-Digest: …' --body answer.json --component @status")]
    Verify {
        /// The public key: PEM, a certificate, or a JWK.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        #[command(flatten)]
        message: MessageArgs,
        /// Must be covered. Without it: @method and @target-uri (or @status), and content-digest where it is there. A body
        /// is compared with content-digest, which must then be covered, too.
        #[arg(long = "component", value_name = "COMPONENT")]
        components: Vec<String>,
        /// Which of several signatures.
        #[arg(long, value_name = "WORD")]
        label: Option<String>,
        /// Must be its tag.
        #[arg(long, value_name = "TEXT")]
        tag: Option<String>,
        /// The oldest that is accepted.
        #[arg(long, value_name = "SECONDS", default_value_t = 300)]
        age_max_s: u32,
        /// What keyid may say besides the key's own id.
        #[arg(long = "keyid", value_name = "TEXT")]
        keyids: Vec<String>,
    },
}

/// A message as it goes over the wire.
#[derive(clap::Args, Debug)]
struct MessageArgs {
    /// Of a request.
    #[arg(long, value_name = "METHOD", requires = "url")]
    method: Option<String>,
    /// Of a request: absolute.
    #[arg(long, value_name = "URL", requires = "method")]
    url: Option<String>,
    /// Of a response.
    #[arg(long, value_name = "CODE", conflicts_with_all = ["method", "url"])]
    status: Option<u16>,
    /// A header line.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The body; - is standard input.
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
}

impl MessageArgs {
    /// The message, and the SHA-256 of its body.
    fn read(&self) -> Result<(Message, Option<Sha256>), Failure> {
        let line = |text: &String| {
            let pair = text.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
            pair.filter(|(name, _)| !name.is_empty()).ok_or_else(|| {
                Failure::usage("header_malformed", format!("{text:?} is not a header"), "write it as 'Name: value'")
            })
        };
        let headers = self.headers.iter().map(line).collect::<Result<_, _>>()?;
        let body = self.body.as_deref().map(digest).transpose()?.map(|(digest, _)| digest);
        let message = Message { method: self.method.clone(), url: self.url.clone(), status: self.status, headers };
        Ok((message, body))
    }
}

/// Carries the verb out.
///
/// # Errors
/// The service's by name; of `verify` the rule's: `message_…`; `file_unreadable`, `key_…`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Sign { key, message, components, label, tag, nonce, expires_in_s, idempotency_key, socket: named } => {
            let (mut message, body) = message.read()?;
            let has =
                |message: &Message, name: &str| message.headers.iter().any(|(one, _)| one.eq_ignore_ascii_case(name));
            if let Some(body) = &body {
                message.digest_fits(body).map_err(unlike_its_digest)?;
            }
            // One that the caller has goes over the wire as it is.
            let digest = body.as_ref().filter(|_| !has(&message, "content-digest")).map(content_digest_of);
            message.headers.extend(digest.clone().map(|digest| ("Content-Digest".to_owned(), digest)));
            let components = if components.is_empty() { usual(&message) } else { components };
            let fresh = || hex::encode(clock::random::<32>());
            let nonce = nonce.or_else(|| idempotency_key.is_none().then(fresh));
            let item = json!({
                "kind": "request", "method": message.method, "url": message.url, "status": message.status,
                "headers": message.headers, "components": components, "label": label, "tag": tag, "nonce": nonce,
                "expires_in_s": expires_in_s,
            });
            let asked = json!({ "key": key, "idempotency_key": idempotency_key, "item": item });
            let mut client = Client::connect(&socket(named.as_deref(), &context.state))?;
            let mut answer = client.ask("POST", "/v1/sign", asked.to_string().as_bytes())?.value()?;
            if let Some(digest) = &digest {
                answer["result"]["content_digest"] = json!(digest);
            }
            context.print(&answer, |answer| {
                let result = &answer["result"];
                let mut lines = vec![];
                if let Some(digest) = result["content_digest"].as_str() {
                    lines.push(format!("Content-Digest: {digest}"));
                }
                lines.push(format!("Signature-Input: {}", cell(&result["signature_input"])));
                lines.push(format!("Signature: {}", cell(&result["signature"])));
                lines.join("\n")
            });
            Ok(())
        }
        Verb::Verify { key, message, mut components, label, tag, age_max_s, mut keyids } => {
            let key = public_key(&key)?;
            let (message, body) = message.read()?;
            let is_named = !components.is_empty();
            if let Some(body) = &body {
                message.digest_fits(body).map_err(refused)?;
                components.push("content-digest".into());
            }
            keyids.push(key.id().hex());
            let age_max_s = Some(i64::from(age_max_s));
            let expected = ExpectedMessage { label, tag, components, age_max_s, skew_max_s: SKEW_MAX_S };
            let verified = verify_message(&message, key.spki(), &keyids, &expected, clock::now()).map_err(refused)?;
            if !is_named {
                message.covers_least(verified.components()).map_err(refused)?;
            }
            let shown =
                json!({ "verified": true, "kid": key.id(), "message": verified, "body_compared": body.is_some() });
            context.print(&shown, |_| {
                let covered = verified.components().join(" ");
                let mut text = format!("verified: {} covers {covered}, signed by {}", verified.label(), key.id());
                if body.is_none() && verified.components().iter().any(|one| one == "\"content-digest\"") {
                    text.push_str("\nno body was compared with content-digest: give it with --body");
                }
                text
            });
            Ok(())
        }
    }
}

/// What is covered unless the caller says it.
fn usual(message: &Message) -> Vec<String> {
    let derived: &[&str] = if message.status.is_some() { &["@status"] } else { &["@method", "@target-uri"] };
    let mut all: Vec<String> = derived.iter().map(|name| (*name).to_owned()).collect();
    for (name, _) in &message.headers {
        let name = name.to_ascii_lowercase();
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

fn unlike_its_digest(refusal: MessageRefusal) -> Failure {
    let next = "leave the header Content-Digest out: it is made of --body; or give the body that it is of";
    Failure::usage(refusal.name(), refusal.to_string(), next)
}

fn refused(refusal: MessageRefusal) -> Failure {
    Failure::refused(refusal.name(), refusal.to_string(), "do not act on the message")
}
