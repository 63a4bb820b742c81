//! The attacker: runs in the front process, after every door is open, and tries to get at PIN, token and keys.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use countersign::hsm::channel::{Channel, PACKET_BYTES_MAX};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use nix::sys::uio::RemoteIoVec;
use rustix::fs::{FileType, Mode};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, PidfdFlags, PidfdGetfdFlags, Resource};

use crate::search::{self, Found};
use crate::task::{Check, MODULE, Outcome, Task};

/// Places outside the state directory that hold secrets on a usual machine, or other ways to the disk.
const SYSTEM_PLACES: [&str; 10] =
    ["/", "/etc", "/etc/shadow", "/etc/hostname", "/dev", "/dev/shm", "/tmp", "/root", "/usr/lib", "/proc"];

/// The name of the last check: what comes without it was broken off.
pub const LAST: &str = "its memory still holds no secret";

/// The check that a front without privileges cannot be made to fail: nobody raises a hard limit again.
pub const CORE_LIMIT: &str = "its limit of core dumps is 0";

/// The same from any front, confined or not.
pub const PACKETS: &str = "its supervisor gets packets that are no messages";

/// Runs every attack.
pub fn run(task: &Task, mut tell: impl FnMut(Check)) {
    let mut check = |name: String, outcome| tell(Check { name, outcome });
    // First what the front is by itself, before the attacks leave anything in it.
    check(CORE_LIMIT.into(), core_limit());
    check("it is not dumpable".into(), dumpable());
    check("its environment and command line hold no secret".into(), environment(task));
    check("no descriptor leads to PIN, token or device".into(), descriptors(task));
    check("no PKCS#11 module is mapped".into(), mapped());
    check("its memory holds no secret".into(), memory(task));
    for (name, attack) in path_attacks(task).into_iter().chain(process_attacks(task)) {
        check(name, if_confined(&task.no_landlock, || denied(attack())));
    }
    for (name, attack) in scope_attacks(task) {
        check(name, if_confined(&task.no_scopes, || denied(attack())));
    }
    check("every thread is confined".into(), if_confined(&task.no_landlock, threads));
    check(PACKETS.into(), garbage_for_the_supervisor());
    check("its own copy of the module finds no token".into(), if_confined(&task.no_landlock, || own_module(task)));
    check(LAST.into(), memory(task));
}

type Attack<'a> = (String, Box<dyn Fn() -> io::Result<()> + 'a>);

fn attack<'a>(name: impl Into<String>, work: impl Fn() -> io::Result<()> + 'a) -> Attack<'a> {
    (name.into(), Box::new(work))
}

fn if_confined(why_not: &Option<String>, outcome: impl FnOnce() -> Outcome) -> Outcome {
    why_not.clone().map_or_else(outcome, Outcome::Skipped)
}

/// Only a refusal of the kernel counts: an attack that failed for another reason has shown nothing.
fn denied(result: io::Result<()>) -> Outcome {
    match result {
        Ok(()) => Outcome::Failed("it succeeded".into()),
        Err(error) => match Errno::from_io_error(&error) {
            // XDEV: Landlock's answer to a link or a move between places.
            Some(Errno::ACCESS | Errno::PERM | Errno::XDEV) => Outcome::Passed,
            Some(_) | None => Outcome::Failed(format!("not refused, but failed for another reason: {error}")),
        },
    }
}

fn read(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::read_dir(path).map(drop) } else { File::open(path).map(drop) }
}

fn write(path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        return OpenOptions::new().append(true).open(path).map(drop);
    }
    let new = path.join("inside.tmp");
    File::create_new(&new).map(drop)?;
    fs::remove_file(new)
}

fn path_attacks(task: &Task) -> Vec<Attack<'_>> {
    let (store, pin) = (task.state.join("store"), &task.pin_file);
    let pin_inside = pin.strip_prefix(&task.state).expect("the PIN file is in the state directory");
    let mut attacks = Vec::new();
    for path in &task.closed {
        let shown = path.strip_prefix(&task.state).unwrap_or(path).display();
        attacks.push(attack(format!("read {shown}"), || read(path)));
        attacks.push(attack(format!("write {shown}"), || write(path)));
    }
    attacks.push(attack("list the state directory", || read(&task.state)));
    for place in SYSTEM_PLACES.into_iter().filter(|place| Path::new(place).exists()) {
        attacks.push(attack(format!("read {place}"), move || read(Path::new(place))));
    }
    for place in ["/tmp", "/dev/shm"].into_iter().filter(|place| Path::new(place).is_dir()) {
        attacks.push(attack(format!("write {place}"), move || write(Path::new(place))));
    }
    for program in ["/bin/sh", "/proc/self/exe"] {
        attacks
            .push(attack(format!("run {program}"), move || Command::new(program).arg("--version").output().map(drop)));
    }
    let ways_round: [(&str, PathBuf); 3] = [
        ("..", store.join("..").join(pin_inside)),
        ("/proc/self/root", Path::new("/proc/self/root").join(pin.strip_prefix("/").unwrap_or(pin))),
        ("/proc/thread-self/root", Path::new("/proc/thread-self/root").join(pin.strip_prefix("/").unwrap_or(pin))),
    ];
    for (way, path) in ways_round {
        attacks.push(attack(format!("read the PIN file through {way}"), move || read(&path)));
    }
    let at = store.clone();
    attacks.push(attack("read the PIN file through an O_PATH descriptor", move || {
        let path_only = OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH).open(pin)?;
        File::open(format!("/proc/self/fd/{}", path_only.as_raw_fd())).map(drop)
    }));
    attacks.push(attack("read the PIN file through an O_PATH descriptor of its directory", move || {
        let directory = OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH).open(&task.state)?;
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&directory, pin_inside, flags, Mode::empty()).map(drop)?)
    }));
    attacks.push(attack("link the PIN file into the store", {
        let to = at.join("linked.pin");
        move || fs::hard_link(pin, &to).and_then(|()| fs::remove_file(&to))
    }));
    attacks.push(attack("move the PIN file into the store", {
        let to = at.join("moved.pin");
        move || fs::rename(pin, &to).and_then(|()| fs::rename(&to, pin))
    }));
    attacks.push(attack("move the token directory into the store", {
        let (from, to) = (task.state.join("softhsm/tokens"), at.join("moved-tokens"));
        move || fs::rename(&from, &to).and_then(|()| fs::rename(&to, &from))
    }));
    attacks.push(attack("put a file of its own in place of the PIN file", {
        let (own, kept) = (at.join("own.pin"), pin.with_extension("kept"));
        move || {
            fs::write(&own, "own")?;
            fs::rename(pin, &kept)?;
            fs::rename(&kept, pin)
        }
    }));
    attacks.push(attack("make a symbolic link", {
        let link = at.join("link.pin");
        move || symlink(pin, &link).and_then(|()| fs::remove_file(&link))
    }));
    for (what, kind, device) in [
        // Major and minor numbers of /dev/null and of a loop device.
        ("a character device", FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("a block device", FileType::BlockDevice, rustix::fs::makedev(7, 0)),
        ("a pipe", FileType::Fifo, 0),
    ] {
        let node = at.join("node");
        attacks.push(attack(format!("make {what}"), move || {
            rustix::fs::mknodat(rustix::fs::CWD, &node, kind, Mode::RUSR, device)?;
            fs::remove_file(&node)
        }));
    }
    attacks.push(attack(format!("load {MODULE}"), || {
        // `Pkcs11::new` loads and does not initialise.
        let opened = File::open(MODULE).map(drop);
        match Pkcs11::new(MODULE) {
            Ok(_) => Ok(()),
            Err(_) => opened.and(Err(io::Error::other("it can be read but was not loaded"))),
        }
    }));
    attacks
}

fn process_attacks(task: &Task) -> Vec<Attack<'_>> {
    let workers = task.workers.iter().map(|pid| ("worker", *pid));
    let mut attacks = Vec::new();
    for (who, raw) in std::iter::once(("supervisor", task.supervisor)).chain(workers) {
        let pid = Pid::from_raw(raw).expect("a process id");
        for place in ["mem", "environ", "maps", "cmdline", "fd", "cwd/.", "root/.", "task"] {
            let path = PathBuf::from(format!("/proc/{raw}/{place}"));
            attacks.push(attack(format!("read /proc/<{who}>/{place}"), move || {
                let is_directory = matches!(place, "fd" | "cwd/." | "root/." | "task");
                if is_directory { fs::read_dir(&path).map(drop) } else { File::open(&path).map(drop) }
            }));
        }
        let through = Path::new(&format!("/proc/{raw}/root")).join(task.pin_file.strip_prefix("/").unwrap());
        attacks.push(attack(format!("read the PIN file through /proc/<{who}>/root"), move || {
            File::open(&through).map(drop)
        }));
        attacks.push(attack(format!("trace the {who}"), move || {
            let pid = nix::unistd::Pid::from_raw(raw);
            Ok(nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty())?)
        }));
        attacks.push(attack(format!("read the {who}'s memory"), move || {
            let mut byte = [0];
            let local = &mut [io::IoSliceMut::new(&mut byte)];
            let remote = [RemoteIoVec { base: 0x1000, len: 1 }];
            match nix::sys::uio::process_vm_readv(nix::unistd::Pid::from_raw(raw), local, &remote) {
                // Permission comes before the address: nothing is mapped there.
                Ok(_) | Err(nix::errno::Errno::EFAULT) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }));
        attacks.push(attack(format!("take a descriptor of the {who}"), move || {
            let process: OwnedFd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
            Ok(rustix::process::pidfd_getfd(&process, 0, PidfdGetfdFlags::empty()).map(drop)?)
        }));
    }
    attacks
}

fn scope_attacks(task: &Task) -> Vec<Attack<'_>> {
    let workers = task.workers.iter().map(|pid| ("worker", *pid));
    let mut attacks = Vec::new();
    for (who, raw) in std::iter::once(("supervisor", task.supervisor)).chain(workers) {
        let pid = Pid::from_raw(raw).expect("a process id");
        attacks.push(attack(format!("signal the {who}"), move || Ok(rustix::process::test_kill_process(pid)?)));
    }
    attacks.push(attack("connect to an abstract socket", || {
        use std::os::linux::net::SocketAddrExt;
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&task.abstract_socket)?;
        std::os::unix::net::UnixStream::connect_addr(&address).map(drop)
    }));
    attacks
}

fn core_limit() -> Outcome {
    let limit = rustix::process::getrlimit(Resource::Core);
    if (limit.current, limit.maximum) == (Some(0), Some(0)) {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("{:?} of at most {:?}", limit.current, limit.maximum))
    }
}

fn dumpable() -> Outcome {
    match rustix::process::dumpable_behavior() {
        Ok(DumpableBehavior::NotDumpable) => Outcome::Passed,
        other => Outcome::Failed(format!("{other:?}")),
    }
}

fn environment(task: &Task) -> Outcome {
    let places = ["/proc/self/environ", "/proc/self/cmdline"];
    let found: io::Result<Vec<Found>> =
        allowed_to_look(|| places.iter().map(|place| search::file(Path::new(place), &task.needles)).collect());
    clean(found.map(|found| Found {
        bytes_searched: found.iter().map(|found| found.bytes_searched).sum(),
        hits: found.into_iter().flat_map(|found| found.hits).collect(),
    }))
}

fn memory(task: &Task) -> Outcome {
    clean(allowed_to_look(|| search::own_memory(&task.needles)))
}

fn clean(found: io::Result<Found>) -> Outcome {
    match found {
        Ok(found) if found.bytes_searched == 0 => Outcome::Failed("nothing was searched".into()),
        Ok(found) if found.hits.is_empty() => Outcome::Passed,
        Ok(found) => Outcome::Failed(found.hits.join("; ")),
        Err(error) => Outcome::Failed(format!("the search failed: {error}")),
    }
}

/// The files of /proc/self belong to root while the process is not dumpable; code inside can switch that off.
fn allowed_to_look<T>(look: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = rustix::process::dumpable_behavior()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    let seen = look();
    rustix::process::set_dumpable_behavior(before)?;
    seen
}

fn descriptors(task: &Task) -> Outcome {
    let granted = ["run", "store", "tiles", "receipts", "anchors", "certs", "daemon.lock"];
    let granted: Vec<PathBuf> = granted.into_iter().map(|place| task.state.join(place)).collect();
    let listed = match fs::read_dir("/proc/self/fd") {
        Ok(listed) => listed,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let mut bad = Vec::new();
    for entry in listed.flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let shown = target.to_string_lossy();
        // Sockets, pipes and the like have no path; standard error goes wherever the operator sent it.
        let plain = !shown.starts_with('/') || shown == "/dev/null" || shown.starts_with("/proc/");
        let is_log = entry.file_name().to_str().is_some_and(|number| matches!(number, "1" | "2"));
        if !(plain || is_log || granted.iter().any(|place| target.starts_with(place))) {
            bad.push(format!("{} → {shown}", entry.file_name().to_string_lossy()));
        }
    }
    if bad.is_empty() { Outcome::Passed } else { Outcome::Failed(bad.join("; ")) }
}

fn mapped() -> Outcome {
    let name = Path::new(MODULE).file_name().unwrap_or_default().to_string_lossy();
    match fs::read_to_string("/proc/self/maps") {
        Ok(maps) if maps.contains(&*name) => Outcome::Failed(format!("{name} is mapped")),
        Ok(_) => Outcome::Passed,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// A confined thread has lost the right to gain rights; one that was started before the confinement has not.
fn threads() -> Outcome {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return Outcome::Failed("the threads cannot be listed".into());
    };
    let statuses = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let free: Vec<String> = statuses
        .filter(|status| !status.contains("NoNewPrivs:\t1"))
        .map(|status| status.lines().next().unwrap_or_default().to_owned())
        .collect();
    if free.is_empty() { Outcome::Passed } else { Outcome::Failed(free.join("; ")) }
}

/// That the supervisor still is as it was shows when it replaces a worker, after this.
fn garbage_for_the_supervisor() -> Outcome {
    let deep = [b"[".repeat(30_000), b"]".repeat(30_000)].concat();
    let packets: [&[u8]; 6] = [
        b"\xff\x00",
        b"{}",
        &deep,
        &[b' '; PACKET_BYTES_MAX],
        br#"{"Kill":{"worker":18446744073709551615,"reason":"none"}}"#,
        br#"{"Ready":{"ports":{"again":true}}}"#,
    ];
    let sent = Channel::from_stdin().and_then(|supervisor| {
        let nothing = File::open("/dev/null")?;
        packets.iter().try_for_each(|packet| supervisor.send(packet, Some(nothing.as_fd())))
    });
    match sent {
        Ok(()) => Outcome::Passed,
        // It takes them more slowly than they come: that costs the front, not the supervisor.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Outcome::Passed,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

fn own_module(task: &Task) -> Outcome {
    let Some(path) = &task.own_module else {
        return Outcome::Skipped("the module could not be copied".into());
    };
    let module = match Pkcs11::new(path) {
        Ok(module) => module,
        Err(error) => return Outcome::Failed(format!("it was not loaded, so nothing was shown: {error}")),
    };
    if module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).is_err() {
        return Outcome::Passed;
    }
    let tokens = module.get_slots_with_initialized_token().map(|slots| slots.len());
    let _ = module.finalize();
    match tokens {
        Ok(0) | Err(_) => Outcome::Passed,
        Ok(count) => Outcome::Failed(format!("{count} token(s)")),
    }
}
