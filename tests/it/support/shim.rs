//! A real token behind the module that goes wrong on order (`examples/pkcs11_shim`), and the orders it gets.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use super::token::{MODULE, RealToken, program};

#[allow(dead_code, reason = "the shim itself uses the rest")]
#[path = "../../../examples/pkcs11_shim/codes.rs"]
pub mod codes;
#[allow(dead_code, reason = "the shim itself uses the rest")]
#[path = "../../../examples/pkcs11_shim/counters.rs"]
mod counters;

const BUILD: &str = "cargo build --example pkcs11_shim";

/// The shim's library. `cargo test` builds it with everything else; `cargo test --test it` alone does not.
pub fn library() -> PathBuf {
    let built = program().parent().expect("a folder").join("examples/libpkcs11_shim.so");
    let modified = |path: &Path| std::fs::metadata(path).and_then(|data| data.modified()).ok();
    let sources = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pkcs11_shim"));
    let newest = sources.expect("the sources").flatten().filter_map(|entry| modified(&entry.path())).max();
    let made: SystemTime = modified(&built).unwrap_or_else(|| panic!("{} is missing: {BUILD}", built.display()));
    assert!(newest.is_some_and(|newest| newest <= made), "{} is older than its source: {BUILD}", built.display());
    built
}

/// One line of the shim's journal about a signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signed {
    pub process: u32,
    /// CKA_ID in hexadecimal.
    pub key: String,
    /// SHA-256 of what C_Sign was given, in hexadecimal.
    pub data: String,
    /// Whether the real module made a signature.
    pub made: bool,
    /// What the caller or the real module got.
    pub code: String,
}

/// The control directory of one token's shim.
#[derive(Debug)]
pub struct Control {
    directory: PathBuf,
    /// Orders that stand until `withdraw`.
    faults: std::sync::Mutex<Vec<String>>,
    last_fault: AtomicUsize,
}

/// A fault given as an order; tells how often it was seen.
#[derive(Clone, Copy, Debug)]
pub struct Order(usize);

impl Control {
    pub fn new(directory: PathBuf) -> Self {
        std::fs::create_dir_all(&directory).expect("a control directory");
        let control = Self { directory, faults: std::sync::Mutex::default(), last_fault: AtomicUsize::new(0) };
        control.write();
        control
    }

    /// Adds a line, in force from the next call on.
    pub fn order(&self, line: &str) {
        self.faults.lock().unwrap().push(line.to_owned());
        self.write();
    }

    /// Adds a fault: `before C_Sign fail CKR_DEVICE_ERROR take 1`.
    pub fn fault(&self, fault: &str) -> Order {
        let counter = self.last_fault.fetch_add(1, Ordering::Relaxed);
        assert!(counter < counters::FAULTS, "each fault has a counter of its own");
        self.order(&format!("fault {counter} {fault}"));
        Order(counter)
    }

    /// The next searches for the private or secret key of this CKA_ID, in hexadecimal, find nothing, so many.
    pub fn blind(&self, id: &str, searches: u64) -> Order {
        let counter = self.last_fault.fetch_add(1, Ordering::Relaxed);
        assert!(counter < counters::FAULTS, "each fault has a counter of its own");
        self.order(&format!("blind {counter} {id} take {searches}"));
        Order(counter)
    }

    /// Takes every order back, but for what happened already (`lose-sessions`, `log-out`).
    pub fn withdraw(&self) {
        self.faults.lock().unwrap().retain(|line| line.starts_with("lose-sessions") || line.starts_with("log-out"));
        self.write();
    }

    /// Calls of a function so far, over all processes, whatever became of them.
    pub fn calls(&self, function: &str) -> u64 {
        self.word(counters::CALLS + counters::place_of(function).expect("a function that is counted"))
    }

    /// Calls that a fault was asked about so far.
    pub fn seen(&self, order: Order) -> u64 {
        self.word(counters::SEEN + order.0)
    }

    /// Every C_Sign so far.
    pub fn signatures(&self) -> Vec<Signed> {
        let parsed = |line: &str| {
            let ["sign", process, key, data, done, code] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
            let (key, data, code) = (key.to_owned(), data.to_owned(), code.to_owned());
            Some(Signed { process: process.parse().unwrap(), key, data, made: done == "signed", code })
        };
        self.journal().lines().filter_map(parsed).collect()
    }

    /// The outcome of every C_Login so far: how often the PIN was presented, and what the token said.
    pub fn logins(&self) -> Vec<String> {
        let outcome =
            |line: &str| line.strip_prefix("login ").and_then(|rest| rest.split(' ').nth(1).map(str::to_owned));
        self.journal().lines().filter_map(outcome).collect()
    }

    pub fn journal(&self) -> String {
        std::fs::read_to_string(self.directory.join("journal")).unwrap_or_default()
    }

    /// Replaced in one step: a worker never reads half of it.
    fn write(&self) {
        let lines = self.faults.lock().unwrap().join("\n");
        let beside = self.directory.join("orders.new");
        std::fs::write(&beside, format!("module {MODULE}\njournal\n{lines}\n")).unwrap();
        std::fs::rename(beside, self.directory.join("orders")).unwrap();
    }

    fn word(&self, place: usize) -> u64 {
        let mut word = [0; 8];
        // Nothing was counted before the first worker made the file.
        let file = File::open(self.directory.join("counters"));
        let read = file.and_then(|file| file.read_exact_at(&mut word, 8 * place as u64));
        if let Err(error) = read {
            assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof), "{error}");
        }
        u64::from_ne_bytes(word)
    }
}

/// A provisioned token whose module is the shim over SoftHSM2. Nothing is started yet.
pub fn provisioned(name: &str) -> (RealToken, Control) {
    let mut token = RealToken::provisioned(name);
    let control = Control::new(token.state.resolve("shim"));
    token.use_module(library());
    token.settings.env.insert("PKCS11_SHIM_CONTROL".into(), "{state}/shim".into());
    (token, control)
}
