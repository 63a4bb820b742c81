//! Whose socket it is, who holds its connections, and what else the daemon does while programs wait for its HSM.

use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use countersign::signing::client::Client;
use rustix::process::{Gid, Pid, Signal, Uid, kill_process};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
use serde_json::{Value, json};

use super::{STRANGER, Service, file, until};

/// Everybody whom a container does not map.
const NOBODY: u32 = 65_534;

/// Does this on a thread that is another user's: the kernel says so of the sockets that it opens.
fn as_user<T: Send>(uid: u32, work: impl FnOnce() -> T + Send) -> T {
    let as_thread = || {
        let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
        set_thread_res_gid(group, group, group).unwrap();
        set_thread_res_uid(user, user, user).unwrap();
        work()
    };
    std::thread::scope(|scope| scope.spawn(as_thread).join().unwrap())
}

/// All for whom no key signs have four connections together, and everybody else has the rest.
pub fn strangers_keep_nobody_out(service: &Service) {
    let socket = service.socket();
    let opened: Vec<UnixStream> = as_user(NOBODY, || (0..300).map(|_| UnixStream::connect(&socket).unwrap()).collect());
    let mut told = vec![vec![]; opened.len()];
    until("those that are too many to be turned away", || {
        for (stream, told) in opened.iter().zip(&mut told) {
            stream.set_nonblocking(true).unwrap();
            let mut said = [0; 64];
            match (&*stream).read(&mut said) {
                Ok(count) => told.extend_from_slice(&said[..count]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        let turned_away = told.iter().filter(|told| told.starts_with(b"HTTP/1.1 429")).count();
        (turned_away >= opened.len() - 4).then_some(())
    });
    service.signed("papers", file(b"among strangers"));
    drop(opened);
}

/// Programs that wait for an HSM that answers nothing hold up neither the state of the bank nor a revocation.
pub fn nobody_else_waits_with_them(service: &Service) {
    let database = rusqlite::Connection::open(service.world.state("bank").join("store/store.sqlite3")).unwrap();
    let unsigned = || -> i64 {
        let sql = "SELECT count(*) FROM signings WHERE signatures IS NULL";
        database.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let before = unsigned();
    // Nobody replaces the workers that are stuck.
    let lock = std::fs::read_to_string(service.world.state("bank").join("daemon.lock")).unwrap();
    let mut stopped = vec![Pid::from_raw(lock.trim().parse().unwrap()).unwrap()];
    stopped.extend(service.workers());
    stopped.iter().for_each(|process| kill_process(*process, Signal::STOP).unwrap());
    let ask = |caller: u8| {
        let items: Vec<Value> = (0_u8..8).map(|item| file(&[caller, item])).collect();
        let asked = json!({ "key": "papers", "idempotency_key": format!("stalled-{caller}"), "items": items });
        service.post("/v1/sign/batch", &asked).status
    };
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..64).map(|caller| scope.spawn(move || ask(caller))).collect();
        until("the orders", || (unsigned() - before == 64).then_some(()));
        let status = service.world.run("bank", &["--json", "--operator", "auditor", "status"]);
        assert!(serde_json::from_str::<Value>(&status).is_ok(), "{status}");
        let revoke = ["--json", "--operator", "bank-officer", "revoke", "assistant", "--reason", "key-compromise"];
        let revoked: Value = serde_json::from_slice(&service.world.output("bank", &revoke).stdout).unwrap();
        assert_eq!((&revoked["recorded"], &revoked["effective"]), (&json!(true), &json!(true)), "{revoked}");
        assert_eq!(revoked["pending"]["crl"]["name"], "hsm_starting", "the HSM is stuck: {revoked}");
        assert!(asking.iter().any(|one| !one.is_finished()), "programs waited all that time");
        stopped.iter().for_each(|process| kill_process(*process, Signal::CONT).unwrap());
        let answered: Vec<u16> = asking.into_iter().map(|one| one.join().unwrap()).collect();
        assert!(answered.iter().all(|status| [200, 503].contains(status)), "{answered:?}");
    });
    until("the HSM to be back", || (ask(0) == 200).then_some(()));
}

/// Whose socket it is, is the kernel's word: a daemon takes no place that others can take, and no program asks a socket
/// that is another user's.
pub fn it_is_nobody_elses_socket(service: &Service) {
    let (socket, directory) = (service.socket(), service.outside.path());
    // Why the daemon does not start, behind what it logs.
    let serve = || {
        let output = service.world.output("bank", &["--json", "serve"]);
        let said = String::from_utf8(output.stderr).unwrap();
        let failure: Value = serde_json::from_str(&said[said.find("{\n").unwrap()..]).unwrap();
        let word = |member: &str| failure["error"][member].as_str().unwrap().to_owned();
        (word("name"), word("message"))
    };
    let mode = |mode| std::fs::set_permissions(directory, std::fs::Permissions::from_mode(mode)).unwrap();
    service.world.run("bank", &["stop"]);
    let _ = std::fs::remove_file(&socket);
    std::fs::write(&socket, b"somebody's file").unwrap();
    let (name, message) = serve();
    assert_eq!((name.as_str(), message.contains("a file that is no socket")), ("socket_unusable", true), "{message}");
    assert_eq!(std::fs::read(&socket).unwrap(), b"somebody's file");
    std::fs::remove_file(&socket).unwrap();
    for open in [0o777, 0o775, 0o1777] {
        mode(open);
        let (name, message) = serve();
        assert_eq!(
            (name.as_str(), message.contains("others may write")),
            ("socket_unusable", true),
            "{open:o} {message}"
        );
        assert!(!socket.exists());
    }
    let another = as_user(STRANGER, || UnixListener::bind(&socket).unwrap());
    let refused = Client::connect(&socket).unwrap_err();
    assert_eq!(refused.name, "signing_not_ours", "{refused:?}");
    let mut heard = vec![];
    another.accept().unwrap().0.read_to_end(&mut heard).unwrap();
    assert!(heard.is_empty(), "nothing was sent");
    drop(another);
    std::fs::remove_file(&socket).unwrap();
    mode(0o755);
    service.world.serve("bank");
    service.signed("papers", file(b"ours again"));
}
