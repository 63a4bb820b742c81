//! `countersign sign`: asks the signing service of a daemon, as the user who runs it.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::Access;
use serde_json::{Value, json};

use crate::cli::context::Context;
use crate::cli::table::{cell, table};
use crate::config::Config;
use crate::kernel::external::ExternalKind;
use crate::kernel::json;
use crate::kernel::types::Sha256;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::signing::client::Client;
use crate::signing::proofs;
use crate::signing::settings::SigningSettings;

/// Documents and claims of tokens; a file may be of any size, its digest is what is signed.
const CONTENT_BYTES_MAX: u64 = 1 << 20;
/// What the service reads of one request lies deeper.
const DEPTH_MAX: usize = 30;

/// Have a file, a document, a token or a digest signed by the signing service.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
A file is signed by its SHA-256, size and name, as a JWS beside it; --kind raw signs the digest,
as `openssl dgst -sha256 -verify` takes it with --der.

Examples:
  countersign sign --key releases app.tar.gz > app.tar.gz.jws
  countersign sign --key invoices --kind document invoice.json
  countersign sign --key tokens --kind jwt claims.json
  countersign sign --key raw-blobs --kind raw --der app.tar.gz > app.tar.gz.sig
  countersign sign --key releases --merkle --out proofs *.deb
  countersign sign --keys
  cat app.tar.gz | countersign sign --key releases - --idempotency-key build-4711")]
pub struct Args {
    /// The key's name, as [[signing.key]] of the daemon has it.
    #[arg(long, value_name = "NAME", required_unless_present = "keys")]
    key: Option<String>,
    /// List the keys that sign for you: kinds, limits, public halves.
    #[arg(long, conflicts_with_all = ["key", "files"])]
    keys: bool,
    /// What it is: file, document, jwt or raw.
    #[arg(long, value_parser = kind, default_value = "file", value_name = "KIND")]
    kind: ExternalKind,
    /// One signature over the Merkle tree of all files: each gets a proof that verifies alone.
    #[arg(long, conflicts_with_all = ["kind", "detached", "der", "lifetime_s"])]
    merkle: bool,
    /// Where the proofs of --merkle go: FILE.proof.json for each file.
    #[arg(long, value_name = "DIR", requires = "merkle")]
    out: Option<PathBuf>,
    /// Of raw: write DER, as OpenSSL takes it, instead of base64url of r and s.
    #[arg(long)]
    der: bool,
    /// The JWS without its payload.
    #[arg(long)]
    detached: bool,
    /// Of a token: how many seconds it lives.
    #[arg(long, value_name = "SECONDS")]
    lifetime_s: Option<u32>,
    /// Asking again with it answers the same signature.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// What it is for, for the audit log.
    #[arg(long, value_name = "WORDS")]
    purpose: Option<String>,
    /// The service's socket, where it is not the one of the state directory's configuration.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// What is to be signed; - is standard input.
    #[arg(required_unless_present = "keys", value_name = "FILE")]
    files: Vec<PathBuf>,
}

fn kind(word: &str) -> Result<ExternalKind, String> {
    let signs = [ExternalKind::File, ExternalKind::Document, ExternalKind::Jwt, ExternalKind::Raw];
    signs.into_iter().find(|kind| kind.slug() == word).ok_or_else(|| {
        let known: Vec<&str> = signs.iter().map(|kind| kind.slug()).collect();
        format!("a kind is one of {}; messages of HTTP have `countersign http sign`", known.join(", "))
    })
}

/// Carries the verb out.
///
/// # Errors
/// The service's, by name; `file_unreadable`, `content_malformed`; `proofs_nowhere`, `proofs_of_one_name`.
pub fn run(args: Args, context: &Context) -> Result<(), Failure> {
    if args.merkle {
        proofs_have_places(&args, context)?;
    }
    if args.lifetime_s.is_some() && args.kind != ExternalKind::Jwt {
        let said = "only a token has a lifetime";
        return Err(Failure::usage("lifetime_of_no_token", said, "leave --lifetime-s out, or say --kind jwt"));
    }
    if args.der && args.kind != ExternalKind::Raw {
        return Err(Failure::usage("no_der", "a JWS has no form in DER", "leave --der out, or say --kind raw"));
    }
    let mut client = Client::connect(&socket(args.socket.as_deref(), &context.state))?;
    if args.keys {
        let keys = client.ask("GET", "/v1/keys", b"")?.value()?;
        let columns =
            [("KEY", "name"), ("ALGORITHM", "alg"), ("KID", "kid"), ("KINDS", "kinds"), ("PURPOSES", "purposes")];
        context.print(&keys, |keys| table(keys, &columns, "No key signs for you: ask for [[signing.key]] callers"));
        return Ok(());
    }
    if args.merkle {
        return merkle(&args, context, &mut client);
    }
    let [file] = args.files.as_slice() else {
        return Err(Failure::usage("one_file", "one file is signed at once", "sign many with --merkle, or one by one"));
    };
    let item = match args.kind {
        ExternalKind::File => {
            let (sha256, size) = digest(file)?;
            let name = file.file_name().filter(|_| file != Path::new("-")).map(|name| name.to_string_lossy());
            json!({ "kind": "file", "sha256": sha256, "size": size, "name": name, "format": format(&args) })
        }
        ExternalKind::Document => json!({ "kind": "document", "document": parsed(file)?, "format": format(&args) }),
        ExternalKind::Jwt => json!({ "kind": "jwt", "claims": parsed(file)?, "lifetime_s": args.lifetime_s }),
        ExternalKind::Raw => raw(file, &alg_of(&mut client, args.key.as_deref().unwrap_or_default())?)?,
        ExternalKind::Request | ExternalKind::Batch => unreachable!("not among the kinds that are parsed"),
    };
    let answer = client.ask("POST", "/v1/sign", asked(&args, "item", item).to_string().as_bytes())?.value()?;
    let result = &answer["result"];
    if args.der && !context.json {
        let der = result["signature_der"].as_str().and_then(|text| STANDARD.decode(text).ok());
        let Some(der) = der else {
            return Err(Failure::usage("no_der", "this signature has no form in DER", "leave --der out"));
        };
        return write_bytes(&der);
    }
    context.print(&answer, |_| match (result["jws"].as_str(), result["signature"].as_str()) {
        (Some(text), _) | (None, Some(text)) => text.to_owned(),
        (None, None) => result["jws"].to_string(),
    });
    Ok(())
}

/// Before anything is signed: each proof of a Merkle tree is kept, and none over another.
fn proofs_have_places(args: &Args, context: &Context) -> Result<(), Failure> {
    if args.out.is_none() && !context.json {
        let next = "say where they go: --out DIR, or --json for all of them on standard output";
        return Err(Failure::usage("proofs_nowhere", "each file of --merkle gets a proof of its own", next));
    }
    let mut names = BTreeSet::new();
    let twice = args.files.iter().map(|file| proof_name(file)).find(|name| !names.insert(name.clone()));
    match twice.filter(|_| args.out.is_some()) {
        Some(name) => {
            let said = format!("two of the files would have their proof in {name}");
            Err(Failure::usage("proofs_of_one_name", said, "sign them apart, or take --json instead of --out"))
        }
        None => Ok(()),
    }
}

fn proof_name(file: &Path) -> String {
    format!("{}.proof.json", file.file_name().unwrap_or_default().to_string_lossy())
}

fn format(args: &Args) -> &'static str {
    if args.detached { "detached" } else { "compact" }
}

fn asked(args: &Args, name: &str, what: Value) -> Value {
    let mut asked = json!({ "key": args.key });
    asked[name] = what;
    if let Some(key) = &args.idempotency_key {
        asked["idempotency_key"] = json!(key);
    }
    if let Some(purpose) = &args.purpose {
        asked["purpose"] = json!(purpose);
    }
    asked
}

/// Where the service is: as named, or as the configuration of the state directory says.
pub(super) fn socket(named: Option<&Path>, state: &StateDir) -> PathBuf {
    match named {
        Some(named) => named.to_owned(),
        // Who may not read the configuration may still know the place.
        None => {
            state.resolve(Config::load(state).map_or_else(|_| SigningSettings::default(), |one| one.signing).socket)
        }
    }
}

fn merkle(args: &Args, context: &Context, client: &mut Client) -> Result<(), Failure> {
    let digests = args.files.iter().map(|file| Ok(digest(file)?.0)).collect::<Result<Vec<Sha256>, Failure>>()?;
    let unwritable = |error: std::io::Error| {
        let place = args.out.as_deref().unwrap_or(Path::new("-"));
        let said = format!("{} cannot be written: {error}", place.display());
        Failure::usage("output_unwritable", said, "name another directory")
    };
    // Before anything is signed.
    if let Some(directory) = &args.out {
        std::fs::create_dir_all(directory).map_err(unwritable)?;
        rustix::fs::access(directory, Access::WRITE_OK).map_err(|error| unwritable(error.into()))?;
    }
    let body = asked(args, "items", json!(digests)).to_string();
    let answer = client.ask("POST", "/v1/sign/merkle", body.as_bytes())?.value()?;
    if let Some(directory) = &args.out {
        let proofs = proofs(&answer).unwrap_or_default();
        for (file, proof) in args.files.iter().zip(proofs) {
            let text = serde_json::to_string_pretty(&proof).unwrap_or_default();
            std::fs::write(directory.join(proof_name(file)), text + "\n").map_err(unwritable)?;
        }
    }
    context.print(&answer, |answer| format!("{} items, root {}", cell(&answer["size"]), cell(&answer["root"])));
    Ok(())
}

/// The algorithm of a key, as its users see it.
fn alg_of(client: &mut Client, key: &str) -> Result<String, Failure> {
    let keys = client.ask("GET", "/v1/keys", b"")?.value()?;
    let own = keys["items"].as_array().into_iter().flatten().find(|item| item["name"] == key);
    own.and_then(|own| own["alg"].as_str()).map(str::to_owned).ok_or_else(|| {
        let said = format!("the service has no key {key} for this user");
        Failure::refused("key_not_permitted", said, "ask the daemon's people: [[signing.key]] callers")
    })
}

fn raw(file: &Path, alg: &str) -> Result<Value, Failure> {
    Ok(match alg {
        "ES256" => json!({ "kind": "raw", "digest": digest(file)?.0 }),
        "ES384" => json!({ "kind": "raw", "digest": hex::encode(hashed(file, &aws_lc_rs::digest::SHA384)?.0) }),
        _ => json!({ "kind": "raw", "message": STANDARD.encode(content(file)?) }),
    })
}

/// SHA-256 of a file and its size; - is standard input.
pub(super) fn digest(file: &Path) -> Result<(Sha256, u64), Failure> {
    let (digest, size) = hashed(file, &aws_lc_rs::digest::SHA256)?;
    let bytes: [u8; 32] = digest.try_into().unwrap_or([0; 32]);
    Ok((Sha256(bytes), size))
}

pub(super) fn hashed(file: &Path, with: &'static aws_lc_rs::digest::Algorithm) -> Result<(Vec<u8>, u64), Failure> {
    let mut reader = reader(file)?;
    let mut context = aws_lc_rs::digest::Context::new(with);
    let (mut size, mut part) = (0_u64, vec![0; 64 * 1024]);
    loop {
        match reader.read(&mut part).map_err(|error| unreadable(file, &error))? {
            0 => return Ok((context.finish().as_ref().to_vec(), size)),
            read => {
                context.update(&part[..read]);
                size += read as u64;
            }
        }
    }
}

pub(super) fn content(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![];
    let read = reader(file)?.take(CONTENT_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(file, &error))?;
    if bytes.len() as u64 > CONTENT_BYTES_MAX {
        let said = format!("{} is longer than {CONTENT_BYTES_MAX} bytes", file.display());
        return Err(Failure::usage("content_too_long", said, "sign its digest: --kind file"));
    }
    Ok(bytes)
}

/// A document as the service would read it: a member that is there twice has no one meaning.
fn parsed(file: &Path) -> Result<Value, Failure> {
    let malformed = |why: String| {
        let said = format!("{}: {why}", file.display());
        Failure::usage("content_malformed", said, "a document and the claims of a token are one JSON object")
    };
    let bytes = content(file)?;
    json::check(&bytes, bytes.len(), DEPTH_MAX).map_err(|refused| malformed(refused.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))
}

fn reader(file: &Path) -> Result<Box<dyn Read>, Failure> {
    if file == Path::new("-") {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    Ok(Box::new(std::fs::File::open(file).map_err(|error| unreadable(file, &error))?))
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    let said = format!("{} cannot be read: {error}", file.display());
    Failure::usage("file_unreadable", said, "check the path, or name - for standard input")
}

fn write_bytes(bytes: &[u8]) -> Result<(), Failure> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    // A reader that went away is no failure of ours.
    let _ = out.write_all(bytes).and_then(|()| out.flush());
    Ok(())
}
