//! Hostile frames and packets, in both directions: a front that was taken over against a real worker, a worker that
//! was taken over against a real pool, and any bytes at all against everything that reads them.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use countersign::hsm::channel::Channel;
use countersign::hsm::client::{ControlHandle, WorkerPool};
use countersign::hsm::messages::{self, FrontMessage, SupervisorMessage, WorkerJob, WorkerOrders, WorkerReport};
use countersign::hsm::wire::{self, FromWorker, Hello, Request, Response, ToWorker};
use countersign::hsm::{
    CustodyAttributes, HsmFault, KeyInfo, KeyOrder, KeyState, LibraryInfo, Op, PinState, Plaintext, Reply, Token,
    TokenInfo,
};
use countersign::kernel::credential::profile::Profile;
use countersign::kernel::external::ExternalForm;
use countersign::kernel::sign::{Algorithm, DocumentTag, Purpose, SignInput};
use countersign::kernel::types::Sha256;
use proptest::prelude::*;

use crate::support::tbs::Tbs;
use crate::support::token::{RealToken, program};

#[path = "../../fuzz/checks.rs"]
mod checks;

/// Far more than anything here needs; reached only when something hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Length, then version and body; the version is that of a frame written here.
const HEADER_BYTES: usize = 6;

type Check = fn(&[u8]);
const CHECKS: [(&str, Check); 13] = [
    ("worker_frame", checks::worker_frame),
    ("front_frame", checks::front_frame),
    ("supervisor_packet", checks::supervisor_packet),
    ("key_label", checks::key_label),
    ("slot_uri", checks::slot_uri),
    ("lint", checks::lint),
    ("checkpoint", checks::checkpoint),
    ("note", checks::note),
    ("proof", checks::proof),
    ("receipt", checks::receipt),
    ("tile", checks::tile),
    ("bundle", checks::bundle),
    ("add_checkpoint", checks::add_checkpoint),
];

// Any bytes against everything that reads them

#[test]
fn the_fuzz_corpus_replays() {
    for (name, check) in CHECKS {
        let inputs: Vec<_> = std::fs::read_dir(corpus().join(name)).unwrap().flatten().collect();
        assert!(inputs.len() >= 3, "{name} has a corpus");
        for input in inputs {
            check(&std::fs::read(input.path()).unwrap());
        }
    }
    // A corpus whose frames nobody reads any more shows nothing: see `writes_the_seeds_of_the_fuzz_corpus`.
    let seed = |path: &str| std::fs::read(corpus().join(path)).unwrap();
    assert!(wire::read_frame::<ToWorker>(&mut seed("worker_frame/seed-0").as_slice()).unwrap().is_some());
    assert!(wire::read_frame::<FromWorker>(&mut seed("front_frame/seed-0").as_slice()).unwrap().is_some());
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

#[test]
#[ignore = "writes the seeds of the fuzz corpus anew: to be run when the shape of a frame or packet has changed"]
fn writes_the_seeds_of_the_fuzz_corpus() {
    let kill = FrontMessage::Kill { worker: 1, reason: "deadline_missed".into() };
    let ready = FrontMessage::Ready { ports: serde_json::json!({"mcp": "127.0.0.1:8443"}) };
    let spki = hello().identity.spki;
    let root = Tbs::of(Profile::Root, "root", &spki, "root", &spki).der();
    let two = [
        framed(&FromWorker::Hello(Box::new(hello()))),
        framed(&FromWorker::Replies { hands: 8, replies: every_reply() }),
    ]
    .concat();
    let seeds: [(&str, Vec<Vec<u8>>); 6] = [
        (
            "worker_frame",
            vec![
                framed(&ToWorker::Batch(every_op())),
                framed(&ToWorker::Batch(vec![])),
                with_header(&[0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
            ],
        ),
        (
            "front_frame",
            vec![
                two,
                framed(&FromWorker::Replies { hands: 8, replies: every_reply() }),
                with_header(&[1, 0xff, 0xff, 0x0f]),
            ],
        ),
        (
            "supervisor_packet",
            vec![
                serde_json::to_vec(&kill).unwrap(),
                serde_json::to_vec(&ready).unwrap(),
                serde_json::to_vec(&SupervisorMessage::Worker { worker: 1 }).unwrap(),
                b"[".repeat(300),
            ],
        ),
        (
            "key_label",
            ["bank-root-v1", "bank-agent.shopper-v12", "root-issuing-token-identity-v4294967295", "-v0"]
                .map(|label| label.as_bytes().to_vec())
                .into(),
        ),
        (
            "slot_uri",
            [
                "pkcs11:token=my%20bank;serial=0a",
                "pkcs11:slot-id=3",
                "pkcs11:token=a?pin-value=0123456789abcdef01234567",
            ]
            .map(|uri| uri.as_bytes().to_vec())
            .into(),
        ),
        (
            "lint",
            vec![
                [&[0][..], &root].concat(),
                [&[6][..], br#"{"a":"1","b":[true,null]}"#].concat(),
                [&[8][..], b"bank.example/log\n7\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"].concat(),
            ],
        ),
    ];
    for (name, seeds) in seeds {
        std::fs::create_dir_all(corpus().join(name)).unwrap();
        for (number, seed) in seeds.into_iter().enumerate() {
            std::fs::write(corpus().join(name).join(format!("seed-{number}")), seed).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_at_all_break_a_reader(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        for (_, check) in CHECKS {
            check(&bytes);
        }
    }

    #[test]
    fn a_bent_frame_is_read_or_refused(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        for (bytes, check) in [
            (framed(&ToWorker::Batch(every_op())), checks::worker_frame as Check),
            (framed(&FromWorker::Hello(Box::new(hello()))), checks::front_frame as Check),
            (framed(&FromWorker::Replies { hands: 8, replies: every_reply() }), checks::front_frame as Check),
        ] {
            let mut bent = bytes.clone();
            bent[at.index(bytes.len())] = byte;
            check(&bent);
            check(&bytes[..cut.index(bytes.len())]);
        }
    }

    #[test]
    fn a_bent_body_of_the_right_length_is_read_or_refused(
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let mut body = framed(&ToWorker::Batch(every_op()))[HEADER_BYTES..].to_vec();
        let at = at.index(body.len());
        body.splice(at..(at + bytes.len()).min(body.len()), bytes);
        checks::worker_frame(&with_header(&body));
    }
}

#[test]
fn a_count_without_its_items_is_refused_before_room_is_made_for_them() {
    // A front's batch and a worker's replies of 2^64 - 1 items in ten bytes, and a byte string of 2^62.
    let count = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let batch = with_header(&[&[0][..], &count].concat());
    assert!(wire::read_frame::<ToWorker>(&mut batch.as_slice()).is_err());
    let replies = with_header(&[&[1][..], &count].concat());
    assert!(wire::read_frame::<FromWorker>(&mut replies.as_slice()).is_err());
}

// A hostile front against a real worker

/// A worker as a keeper starts it, with the front's end of its connection in our hands.
struct RawWorker {
    child: Child,
    _channel: Channel,
    service: UnixStream,
    keys: Vec<KeyInfo>,
}

impl RawWorker {
    fn start(token: &RealToken) -> Self {
        let (channel, stdin) = Channel::pair().unwrap();
        let (service, theirs) = UnixStream::pair().unwrap();
        let child = Command::new(program())
            .arg("hsm-worker")
            .env_clear()
            .env("SOFTHSM2_CONF", token.state.resolve("softhsm/softhsm2.conf"))
            .stdin(Stdio::from(stdin))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let job = WorkerJob::Serve { identity: None };
        let orders = WorkerOrders::new(&token.state, &token.settings, job);
        messages::send(&channel, &orders, Some(theirs.as_fd())).unwrap();
        drop(theirs);
        let report = || messages::parse(channel.receive().unwrap().unwrap()).unwrap().0;
        assert!(matches!(report(), WorkerReport::LoginWanted));
        let pin = std::fs::read(token.state.resolve(format!("pins/{}.pin", token.name))).unwrap();
        channel.send(pin.trim_ascii(), None).unwrap();
        assert!(matches!(report(), WorkerReport::LoggedIn));
        assert!(matches!(report(), WorkerReport::Ready { .. }));
        service.set_read_timeout(Some(PATIENCE)).unwrap();
        service.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut worker = Self { child, _channel: channel, service, keys: Vec::new() };
        assert!(matches!(wire::read_frame(&mut worker.service).unwrap(), Some(FromWorker::Hello(_))));
        let answers = worker.ask(vec![request(1, Op::ListKeys)]);
        let [Response { outcome: Ok(Reply::Keys(keys)), .. }] = &answers[..] else { panic!("{answers:?}") };
        worker.keys = keys.clone();
        worker
    }

    /// Sends a batch and waits for as many answers.
    fn ask(&mut self, requests: Vec<Request>) -> Vec<Response> {
        let expected = requests.len();
        wire::write_frame(&mut self.service, &ToWorker::Batch(requests)).unwrap();
        let mut answers = Vec::new();
        while answers.len() < expected {
            match wire::read_frame(&mut self.service).unwrap() {
                Some(FromWorker::Replies { replies, .. }) => answers.extend(replies),
                other => panic!("answers, not {other:?}"),
            }
        }
        answers
    }

    /// Most memory that it ever had, in KiB.
    fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        // One that has ended has no memory any more.
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Closes our end; the worker must end, and what it still said, on both of its outputs.
    fn end(mut self) -> (Vec<Response>, String) {
        let _ = self.service.shutdown(Shutdown::Write);
        let mut answers = Vec::new();
        while let Ok(Some(FromWorker::Replies { replies, .. })) = wire::read_frame(&mut self.service) {
            answers.extend(replies);
        }
        let mut log = String::new();
        let (sender, receiver) = sync_channel(1);
        let mut stderr = self.child.stderr.take().unwrap();
        std::thread::spawn(move || {
            let _ = stderr.read_to_string(&mut log);
            let _ = sender.send(log);
        });
        let log = receiver.recv_timeout(PATIENCE).expect("the worker ends");
        self.child.wait().unwrap();
        (answers, log)
    }
}

impl Drop for RawWorker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn request(id: u64, op: Op) -> Request {
    Request { id, deadline_ms: 20_000, op }
}

fn framed<T: serde::Serialize>(frame: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::write_frame(&mut bytes, frame).unwrap();
    bytes
}

fn with_header(body: &[u8]) -> Vec<u8> {
    let version = framed(&ToWorker::Batch(vec![]))[4..HEADER_BYTES].to_vec();
    let length = u32::try_from(body.len() + version.len()).unwrap();
    [&length.to_be_bytes()[..], &version, body].concat()
}

fn every_op() -> Vec<Request> {
    let inputs = [
        SignInput::Certificate { tbs: vec![0x30; 40] },
        SignInput::TreeHead { note: b"bank.example/log\n7\n".to_vec() },
        SignInput::Document { tag: DocumentTag::BatchRoot, canonical_json: b"{}".to_vec() },
        SignInput::HttpRequest { base: b"\"@method\": POST\n".to_vec() },
        SignInput::Jwt { signing_input: b"e30.e30".to_vec() },
        SignInput::Mandate { signing_input: b"e30.e30".to_vec(), disclosures: vec!["W10".into()] },
        SignInput::AuditExport { note: b"countersign/audit-export/v1\n".to_vec() },
        SignInput::External { form: ExternalForm::Digest, bytes: vec![7; 32] },
        SignInput::SelfTest { nonce: [7; 32] },
    ];
    let sign = inputs.into_iter().map(|input| Op::Sign { key: Sha256([9; 32]), input });
    let key = Sha256([9; 32]);
    let seal = Op::Seal { key, context: b"c".to_vec(), plaintext: Plaintext(b"p".to_vec().into()) };
    let unseal = Op::Unseal { key, context: b"c".to_vec(), sealed: vec![7; 30] };
    let generate = order("bank", Purpose::Agent, Some("a"));
    let others = [Op::Describe, Op::ListKeys, generate, seal, unseal, Op::Retire { key }, Op::Destroy { key }];
    let all = others.into_iter().chain(sign);
    all.enumerate().map(|(id, op)| request(id as u64, op)).collect()
}

#[test]
fn frames_that_are_not_ours_end_the_worker_and_sign_nothing() {
    let token = RealToken::provisioned("bank");
    let good = framed(&ToWorker::Batch(vec![request(1, Op::Describe)]));
    let bent = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let table: [(&str, Vec<u8>); 9] = [
        ("length 0", vec![0; 4]),
        ("length 1", vec![0, 0, 0, 1, 0]),
        ("the longest length there is", vec![0xff; 64]),
        ("a length just above the limit", [&(16_777_217_u32).to_be_bytes()[..], &[0; 64]].concat()),
        ("another version", bent(5, 0x7f)),
        ("an unknown message", bent(HEADER_BYTES, 9)),
        ("an unknown operation", bent(good.len() - 1, 99)),
        ("a count without items", with_header(&[0, 0xff, 0xff, 0xff, 0xff, 0x0f])),
        ("bytes after the body", with_header(&[&good[HEADER_BYTES..], &[0; 8]].concat())),
    ];
    for (what, bytes) in table {
        let mut worker = RawWorker::start(&token);
        worker.service.write_all(&bytes).unwrap();
        // It ends by itself, with our end still open for what it has to say.
        let mut rest = Vec::new();
        worker.service.read_to_end(&mut rest).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(rest.is_empty(), "{what}: nothing is answered");
        let (answers, log) = worker.end();
        assert!(answers.is_empty(), "{what}");
        assert!(log.contains("the front's frames"), "{what}: {log}");
        assert!(!log.contains("panicked"), "{what}: {log}");
    }
}

#[test]
fn a_frame_that_never_ends_costs_its_announced_length_and_no_more() {
    let token = RealToken::provisioned("bank");
    let mut worker = RawWorker::start(&token);
    let before = worker.peak_kib();
    worker.service.write_all(&(16_777_216_u32).to_be_bytes()).unwrap();
    worker.service.write_all(&vec![0; 8 << 20]).unwrap();
    assert!(worker.peak_kib() - before < 64 * 1024);
    let (answers, log) = worker.end();
    assert!(answers.is_empty() && !log.contains("panicked"), "{log}");
}

#[test]
fn odd_numbers_are_answered_under_the_numbers_they_came_with() {
    let token = RealToken::provisioned("bank");
    let mut worker = RawWorker::start(&token);
    let identity = worker.keys[0].id;
    let self_test = || Op::Sign { key: identity, input: SignInput::SelfTest { nonce: [7; 32] } };
    let late = Request { id: 5, deadline_ms: 0, op: self_test() };
    let patient = Request { id: 6, deadline_ms: u64::MAX, op: Op::Describe };
    let twice = [request(7, Op::Describe), request(7, Op::Describe)];
    let ends = [request(0, Op::Describe), request(u64::MAX, Op::Describe)];
    let mut answers = worker.ask([late, patient].into_iter().chain(twice).chain(ends).collect());
    answers.sort_by_key(|answer| answer.id);
    assert_eq!(answers.iter().map(|answer| answer.id).collect::<Vec<_>>(), [0, 5, 6, 7, 7, u64::MAX]);
    for answer in answers {
        match answer.outcome {
            Err(HsmFault::Unavailable { name, maybe_signed: false, .. }) => {
                assert_eq!((answer.id, name.as_str()), (5, "deadline_passed"));
            }
            outcome => assert!(matches!(outcome, Ok(Reply::Token(_))), "{outcome:?}"),
        }
    }
    // An empty batch asks for nothing and is no reason to end.
    worker.service.write_all(&framed(&ToWorker::Batch(vec![]))).unwrap();
    assert!(worker.ask(vec![request(1, self_test())])[0].outcome.is_ok());
}

#[test]
fn a_batch_beyond_the_window_is_answered_whole_or_refused_and_no_request_twice() {
    let token = RealToken::provisioned("bank");
    let mut worker = RawWorker::start(&token);
    let many = (0..20_000).map(|id| request(id, Op::Describe)).collect();
    wire::write_frame(&mut worker.service, &ToWorker::Batch(many)).unwrap();
    let (answers, log) = worker.end();
    let mut ids: Vec<u64> = answers.iter().map(|answer| answer.id).collect();
    ids.sort_unstable();
    let answered = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), answered);
    assert!(answers.iter().all(|answer| matches!(answer.outcome, Ok(Reply::Token(_)) | Err(HsmFault::Busy))));
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn what_a_client_would_not_even_send_the_worker_refuses_too() {
    let token = RealToken::provisioned("bank");
    let mut worker = RawWorker::start(&token);
    let identity = worker.keys[0].id;
    let sign = |key, input| request(1, Op::Sign { key, input });
    let big = SignInput::Crl { tbs: vec![0x30; 9 << 20] };
    let agent = |purpose, agent| order("../bank", purpose, agent);
    for (refused, name) in [
        (sign(identity, big.clone()), "wrong_purpose"),
        (sign(Sha256([9; 32]), big), "unknown_key"),
        (sign(identity, SignInput::TreeHead { note: vec![0; 5_000] }), "wrong_purpose"),
        (request(1, agent(Purpose::Root, None)), "input_malformed"),
        (request(1, agent(Purpose::Agent, Some("a\0b"))), "input_malformed"),
        (request(1, order("bank", Purpose::TokenIdentity, None)), "identity_exists"),
    ] {
        let answers = worker.ask(vec![refused]);
        assert!(
            matches!(&answers[0].outcome, Err(HsmFault::Refused { name: found, .. }) if found == name),
            "{name}: {answers:?}"
        );
    }
    let Ok(Reply::Key(root)) = worker.ask(vec![request(1, root_key())])[0].outcome.clone() else { panic!("a key") };
    let big = SignInput::Certificate { tbs: vec![0x30; 70_000] };
    let answers = worker.ask(vec![sign(root.id, big)]);
    let outcome = &answers[0].outcome;
    assert!(matches!(outcome, Err(HsmFault::Refused { name, .. }) if name == "input_too_large"), "{outcome:?}");
}

fn root_key() -> Op {
    order("bank", Purpose::Root, None)
}

fn order(party: &str, purpose: Purpose, agent: Option<&str>) -> Op {
    let (party, agent, algorithm) = (party.into(), agent.map(str::to_owned), purpose.default_algorithm());
    Op::Generate(KeyOrder { party, purpose, agent, algorithm })
}

/// A request takes three bytes, a decoded one and its answer a hundred times that. A front that sends millions and
/// reads nothing must not fill the machine with them.
#[test]
fn a_front_that_asks_for_millions_and_reads_nothing_costs_bounded_memory() {
    let token = RealToken::provisioned("bank");
    let mut worker = RawWorker::start(&token);
    let before = worker.peak_kib();
    let one = framed(&ToWorker::Batch(vec![Request { id: 1, deadline_ms: 1, op: Op::Describe }]));
    let request = &one[HEADER_BYTES + 2..];
    let count = 4_000_000_usize;
    let mut body = vec![0];
    let mut left = count;
    while left >= 0x80 {
        body.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    body.push(left as u8);
    body.extend(request.repeat(count));
    let frame = with_header(&body);
    for _ in 0..3 {
        // The worker may end, or stop to read, at any time: that is what is asked for.
        if worker.service.write_all(&frame).is_err() || worker.child.try_wait().unwrap().is_some() {
            break;
        }
    }
    if worker.child.try_wait().unwrap().is_none() {
        let grown = worker.peak_kib().saturating_sub(before);
        assert!(grown < 192 * 1024, "grew by {grown} KiB");
    }
}

proptest! {
    // Each costs a worker.
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn a_worker_survives_or_ends_but_never_signs_for_random_frames(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 1..6),
    ) {
        let token = RealToken::provisioned("bank");
        let mut worker = RawWorker::start(&token);
        for body in &bodies {
            let _ = worker.service.write_all(&with_header(body));
        }
        let (answers, log) = worker.end();
        let signed = answers.iter().any(|answer| matches!(answer.outcome, Ok(Reply::Signature(_))));
        prop_assert!(!signed && !log.contains("panicked"), "{log}");
    }
}

#[test]
fn after_a_worker_was_ended_by_bad_frames_the_next_one_serves() {
    let token = RealToken::provisioned("bank");
    let mut worker = RawWorker::start(&token);
    worker.service.write_all(&[0xff; 16]).unwrap();
    worker.end();
    let mut next = RawWorker::start(&token);
    assert!(next.ask(vec![request(1, Op::Describe)])[0].outcome.is_ok());
}

// A hostile worker against a real pool

/// A pool whose supervisor and workers are ours.
struct RawPool {
    pool: Arc<WorkerPool>,
    _control: ControlHandle,
    supervisor: Arc<Channel>,
    last_worker: u64,
}

impl RawPool {
    fn start(deadline_ms: u64) -> Self {
        let (supervisor, theirs) = Channel::pair().unwrap();
        let (pool, control) = WorkerPool::attach(theirs, 1, Duration::from_millis(deadline_ms)).unwrap();
        Self { pool, _control: control, supervisor: Arc::new(supervisor), last_worker: 0 }
    }

    /// Hands over the other end of a new worker.
    fn hand_over(&mut self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.last_worker += 1;
        let message = SupervisorMessage::Worker { worker: self.last_worker };
        messages::send(&self.supervisor, &message, Some(theirs.as_fd())).unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        ours
    }

    /// The next order to kill a worker.
    fn killed(&self) -> (u64, String) {
        let (supervisor, (sender, receiver)) = (Arc::clone(&self.supervisor), sync_channel(1));
        std::thread::spawn(move || sender.send(supervisor.receive()));
        let packet = receiver.recv_timeout(PATIENCE).expect("the pool gives the worker up").unwrap().unwrap();
        match messages::parse(packet).unwrap().0 {
            FrontMessage::Kill { worker, reason } => (worker, reason),
            other => panic!("a kill order, not {other:?}"),
        }
    }

    /// A worker that behaves: says Hello and answers one Describe.
    fn serves(&mut self) {
        let mut worker = self.hand_over();
        worker.write_all(&framed(&FromWorker::Hello(Box::new(hello())))).unwrap();
        let served = std::thread::spawn(move || {
            let Ok(Some(ToWorker::Batch(requests))) = wire::read_frame(&mut worker) else { panic!("a batch") };
            let reply = |request: &Request| Response { id: request.id, outcome: Ok(Reply::Token(hello().token)) };
            let replies = requests.iter().map(reply).collect();
            worker.write_all(&framed(&FromWorker::Replies { hands: 8, replies })).unwrap();
            worker
        });
        let token: Arc<dyn Token> = Arc::clone(&self.pool) as Arc<dyn Token>;
        assert_eq!(token.describe().unwrap(), hello().token);
        served.join().unwrap();
    }
}

fn hello() -> Hello {
    let custody = CustodyAttributes::SOUND;
    let identity = KeyInfo {
        id: Sha256([3; 32]),
        label: "bank-token-identity-v1".into(),
        purpose: Purpose::TokenIdentity,
        agent: None,
        version: 1,
        algorithm: Algorithm::P256,
        spki: vec![1; 91],
        custody,
        state: KeyState::Active,
    };
    let token = TokenInfo {
        module: "ours".into(),
        library: LibraryInfo { path: "/ours.so".into(), description: "ours".into(), version: "1".into(), sha256: None },
        pin: PinState::Sound,
        label: "bank".into(),
        serial: "1".into(),
        manufacturer: "ours".into(),
        mechanisms: vec!["CKM_ECDSA".into()],
        worker_pid: 1,
    };
    Hello { token, identity, hands: 8 }
}

fn every_reply() -> Vec<Response> {
    let outcomes = [
        Ok(Reply::Token(hello().token)),
        Ok(Reply::Keys(vec![hello().identity])),
        Ok(Reply::Key(hello().identity)),
        Ok(Reply::Signature(vec![7; 64])),
        Ok(Reply::Sealed(vec![7; 64])),
        Ok(Reply::Opened(Plaintext(b"p".to_vec().into()))),
        Err(HsmFault::Busy),
        Err(HsmFault::Refused { name: "a".into(), message: "b".into() }),
    ];
    outcomes.into_iter().enumerate().map(|(id, outcome)| Response { id: id as u64, outcome }).collect()
}

#[test]
fn a_worker_that_does_not_say_hello_is_replaced() {
    let replies = framed(&FromWorker::Replies { hands: 8, replies: vec![] });
    let mut other_version = framed(&FromWorker::Hello(Box::new(hello())));
    other_version[5] ^= 0x40;
    let first_words = [replies, other_version, vec![0xff; 64], vec![0; 4], vec![0, 1, 0, 0, 9]];
    for words in first_words {
        // The last one is the beginning of a frame that never ends: a deadline ends it.
        let mut pool = RawPool::start(1_000);
        let mut worker = pool.hand_over();
        worker.write_all(&words).unwrap();
        assert_eq!(pool.killed(), (1, "no_hello".into()), "{words:?}");
        pool.serves();
    }
}

#[test]
fn a_worker_that_breaks_the_protocol_after_its_hello_is_replaced() {
    let good = framed(&FromWorker::Hello(Box::new(hello())));
    let oversized = vec![0xff; 8];
    let count = with_header(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    for words in [good.clone(), oversized, count, vec![0; 4]] {
        let mut pool = RawPool::start(5_000);
        let mut worker = pool.hand_over();
        worker.write_all(&[good.as_slice(), &words].concat()).unwrap();
        let (worker, reason) = pool.killed();
        assert!(worker == 1 && !reason.is_empty());
        pool.serves();
    }
}

#[test]
fn answers_that_nobody_asked_for_are_dropped_and_wrong_ones_are_named() {
    let mut pool = RawPool::start(5_000);
    let mut worker = pool.hand_over();
    let unasked = (500..600).chain([0, u64::MAX]).map(|id| Response { id, outcome: Ok(Reply::Signature(vec![1])) });
    let noise = framed(&FromWorker::Replies { hands: u32::MAX, replies: unasked.collect() });
    worker.write_all(&[framed(&FromWorker::Hello(Box::new(hello()))), noise].concat()).unwrap();
    let answering = std::thread::spawn(move || {
        for outcome in [Ok(Reply::Keys(vec![])), Ok(Reply::Token(hello().token))] {
            let Ok(Some(ToWorker::Batch(requests))) = wire::read_frame(&mut worker) else { panic!("a batch") };
            let id = requests[0].id;
            let twice = vec![Response { id, outcome: outcome.clone() }, Response { id, outcome }];
            worker.write_all(&framed(&FromWorker::Replies { hands: 8, replies: twice })).unwrap();
        }
        worker
    });
    let token: Arc<dyn Token> = Arc::clone(&pool.pool) as Arc<dyn Token>;
    let fault = token.sign(Sha256([9; 32]), SignInput::SelfTest { nonce: [0; 32] }).unwrap_err();
    assert!(matches!(&fault, HsmFault::Unavailable { name, .. } if name == "reply_mismatch"), "{fault:?}");
    assert!(token.describe().is_ok());
    answering.join().unwrap();
}

#[test]
fn a_reply_that_never_ends_is_cut_off_by_the_deadline() {
    let mut pool = RawPool::start(1_000);
    let mut worker = pool.hand_over();
    worker.write_all(&framed(&FromWorker::Hello(Box::new(hello())))).unwrap();
    let stalling = std::thread::spawn(move || {
        let read: Option<ToWorker> = wire::read_frame(&mut worker).unwrap();
        worker.write_all(&[0, 1, 0, 0, 0]).unwrap();
        // Until the pool closes the connection.
        let _ = worker.read_to_end(&mut Vec::new());
        read.is_some()
    });
    let token: Arc<dyn Token> = Arc::clone(&pool.pool) as Arc<dyn Token>;
    let fault = token.describe().unwrap_err();
    assert_eq!(fault.name(), "deadline_missed", "{fault}");
    assert_eq!(pool.killed().0, 1);
    assert!(stalling.join().unwrap());
    pool.serves();
}

#[test]
fn packets_that_are_no_messages_of_the_supervisor_change_nothing() {
    let mut pool = RawPool::start(5_000);
    let deep = [b"[".repeat(20_000), b"]".repeat(20_000)].concat();
    for packet in [&b"{}"[..], b"\xff\xfe", b"null", &deep, br#"{"Worker":{"worker":-1}}"#] {
        pool.supervisor.send(packet, None).unwrap();
    }
    // A worker without a socket; a socket that is none.
    messages::send(&pool.supervisor, &SupervisorMessage::Worker { worker: 90 }, None).unwrap();
    let (nothing, _other) = rustix::pipe::pipe().unwrap();
    assert!(nothing.as_raw_fd() >= 0);
    messages::send(&pool.supervisor, &SupervisorMessage::Worker { worker: 91 }, Some(nothing.as_fd())).unwrap();
    assert_eq!(pool.killed().0, 91);
    pool.serves();
}
