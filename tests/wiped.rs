//! Memory that was given back holds nothing of what went through it: everything that this process may write to is searched. A
//! program of its own, with one test: other threads' memory would be searched, too.

use std::fs::File;
use std::os::unix::fs::FileExt;

use countersign::front::admin::AdminAnswer;
use countersign::hsm::wire::{FromWorker, Request, Response, ToWorker};
use countersign::hsm::{Op, Plaintext, Reply};
use countersign::kernel::types::Sha256;
use countersign::ops::ipc::{next_frame, read_frame, write_frame};
use countersign::ops::secret::{Growing, Secret};
use countersign::vault::Released;
use zeroize::Zeroizing;

/// What is looked for: plain, or as base64 has its beginning. Constants are no memory that can be written to.
const CANARY: &[u8] = b"canary-of-freed-memory";
const IN_BASE64: &[u8] = b"Y2FuYXJ5LW9mLWZyZWVkLW1lbW9y";

/// Places of this process's memory that hold it.
fn found() -> usize {
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut found = 0;
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        let special = ["[vvar]", "[vsyscall]", "[vdso]"].iter().any(|name| line.ends_with(name));
        if !rest.starts_with("rw") || special {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|place| u64::from_str_radix(place, 16).unwrap());
        // What is read is wiped again: it would be found itself.
        let mut bytes = Zeroizing::new(vec![0; 1 << 20]);
        let mut at = from;
        while at < to {
            let wanted = usize::try_from(to - at).unwrap().min(bytes.len());
            // Reserved and not there.
            let Ok(count) = memory.read_at(&mut bytes[..wanted], at) else { break };
            if count == 0 {
                break;
            }
            found += in_it(&bytes[..count], CANARY) + in_it(&bytes[..count], IN_BASE64);
            at += count as u64;
        }
    }
    found
}

fn in_it(bytes: &[u8], what: &[u8]) -> usize {
    const PAGE: usize = 4096;
    let mut found = 0;
    for (page, part) in bytes.chunks(PAGE).enumerate() {
        // Most pages were never written to.
        if part.contains(&what[0]) {
            let places = (page * PAGE..page * PAGE + part.len()).filter(|at| bytes[*at] == what[0]);
            found += places.filter(|at| bytes[*at..].starts_with(what)).count();
        }
    }
    found
}

/// So many bytes full of it. A multiple of three, so that base64 has it in one form.
fn full(times: usize) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity((CANARY.len() + 2) * times));
    for _ in 0..times {
        bytes.extend_from_slice(CANARY);
        bytes.extend_from_slice(b"!!");
    }
    bytes
}

#[test]
fn frames_and_answers_that_carry_secrets_leave_nothing_in_memory_that_was_given_back() {
    assert_eq!(found(), 0, "before anything");
    let key = Sha256([7; 32]);
    for times in [3, 30, 2_700] {
        {
            let op = Op::Seal { key, context: vec![1], plaintext: Plaintext(full(times)) };
            let batch = ToWorker::Batch(vec![Request { id: 1, deadline_ms: 1, op }]);
            let mut wire = Growing::default();
            write_frame(&mut wire, &batch).unwrap();
            drop(batch);
            drop(read_frame::<ToWorker>(&mut wire.as_slice()).unwrap().unwrap());
        }
        assert_eq!(found(), 0, "asked of a worker, {times}");
        {
            let outcome = Ok(Reply::Opened(Plaintext(full(times))));
            let replies = FromWorker::Replies { hands: 1, replies: vec![Response { id: 1, outcome }] };
            let mut wire = Growing::default();
            write_frame(&mut wire, &replies).unwrap();
            drop(replies);
            drop(read_frame::<FromWorker>(&mut wire.as_slice()).unwrap().unwrap());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            drop(runtime.block_on(next_frame::<FromWorker>(&mut wire.as_slice(), 1 << 20)).unwrap().unwrap());
        }
        assert_eq!(found(), 0, "answered by a worker, {times}");
        {
            let (name, value) = ("a".parse().unwrap(), Secret(full(times)));
            let answer = AdminAnswer::Secret(Released { name, version: 1, expires: None, value });
            let mut line = Growing::default();
            serde_json::to_writer(&mut line, &answer).unwrap();
            drop(answer);
            drop(serde_json::from_slice::<AdminAnswer>(line.as_slice()).unwrap());
        }
        assert_eq!(found(), 0, "a line of the daemon's, {times}");
    }
    // The search itself finds what it looks for, in what was given back, too.
    let there = full(3);
    assert!(found() >= 3);
    drop(there);
    let mut plain = Vec::with_capacity(1 << 16);
    (0..2_700).for_each(|_| plain.extend_from_slice(CANARY));
    drop(plain);
    assert!(found() > 1_000);
}
