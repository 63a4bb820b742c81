//! The composition root: the only place that names adapters and puts the parts of a front together.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::audit;
use crate::audit::archive::{self, Archive};
use crate::audit::settings::PeerLease;
use crate::banking::{self, CoreBanking};
use crate::ca::settings::PartyKind;
use crate::ca::{Authority, AuthoritySetup, Renewal};
use crate::config::Config;
use crate::front::admin_group::AdminGroup;
use crate::front::admin_socket;
use crate::front::agent_keys::AgentKeysGate;
use crate::front::agent_socket;
use crate::front::console::{Console, Pages};
use crate::front::follow::{self, follow};
use crate::front::gates::Gates;
use crate::front::lease::RENEWAL_INTERVAL;
use crate::front::listener::{Listener, ListenerSetup};
use crate::front::live::Live;
use crate::front::log_tiles::LogDoor;
use crate::front::operators::Operators;
use crate::front::peer::PeerListener;
use crate::front::peer_lease;
use crate::front::pki::{self, Publication};
use crate::front::services::{FrontSettings, Services, ServicesSetup};
use crate::front::settings::PeerLimitSettings;
use crate::front::watched;
use crate::front::watching;
use crate::front::witness;
use crate::guard::Reached;
use crate::hsm::client::{self, ControlHandle, HsmState, WorkerPool};
use crate::hsm::confine;
use crate::hsm::supervisor;
use crate::kernel::command::Actor;
use crate::kernel::sign::Purpose;
use crate::notify::{self, Notifier};
use crate::ops::clock;
use crate::ops::failure::Failure;
use crate::ops::paths::StateDir;
use crate::ops::space::Space;
use crate::payment::Outbox;
use crate::signing;
use crate::signing::settings::SigningSettings;
use crate::store::keep::Keep;
use crate::store::postgres::{Endpoint, PostgresStore};
use crate::store::sqlite::SqliteStore;
use crate::store::{Schema, Store};
use crate::tls::ClientIdentity;
use crate::tls::asking::{Place, Unresolved};
use crate::tls::peer::{PeerClient, PeerPlace};
use crate::vault::{Feed, Vault, VaultSetup};

/// How often expired holds go back and refused handshakes are written down.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);
/// How soon a credential that was rotated is used.
const FEED_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked whether a list is due.
const PUBLICATION_INTERVAL: Duration = Duration::from_secs(1);
/// Set-up may complete while the daemon runs: how soon the listener notices.
const SETUP_POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How often agents' certificates are looked at that may have to be renewed or given up.
const TENDING_INTERVAL: Duration = Duration::from_secs(60);
/// Of these turns one forgets requests whose time is over: once an hour.
const FORGETTING_TURNS: u64 = 60;

/// Between two turns of the breaker.
const GUARD_PAUSE: Duration = Duration::from_millis(500);

/// Between two looks at the outbox, at first and at most.
const DELIVERY_PAUSE_FIRST: Duration = Duration::from_millis(200);
const DELIVERY_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Which doors a front opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doors {
    All,
    /// The admin socket only: a daemon started for one command.
    AdminOnly,
}

/// Runs the front process: standard input is the control socket to the supervisor.
///
/// # Errors
/// Whatever kept it from starting; the supervisor shows it.
pub fn run_front(state: &StateDir, doors: Doors) -> Result<(), Failure> {
    let control = client::control_from_stdin()?;
    let config = Config::load(state)?;
    // One party acts alone when the other cannot be found, and one command when nobody can.
    let core = if doors == Doors::All { Unresolved::Refused } else { Unresolved::Tolerated };
    let outside = config.banking.as_ref().map(|banking| banking::Outside::read(banking, state, core)).transpose();
    let peer = config.peer.as_ref().map(|peer| PeerPlace::find(peer, Unresolved::Tolerated)).transpose();
    let followed = follow::source(&config.pki, Unresolved::Tolerated);
    let group = AdminGroup::find(&config.admin);
    // Nobody waits for mail: a receiver without an address closes its channel, and nothing else.
    let told = notify::Outside::read(&config.notify, state, Unresolved::Tolerated);
    // Nobody waits for an archive either.
    let archive = config.audit.archive.as_ref();
    let archive = archive.map(|archive| archive::Outside::read(archive, state, Unresolved::Tolerated)).transpose();
    // What it takes from files and name servers is out of reach afterwards.
    let store = StorePlace::find(state, &config);
    let signing = if doors == Doors::All { signing::Socket::open(&config.signing, state) } else { Ok(None) };
    // Before any thread starts: threads inherit the confinement.
    let confinement = {
        let archived = archive.as_ref().ok().and_then(Option::as_ref).and_then(archive::Outside::directory);
        confine::confine_front(state, archived)
    };
    let (_, _, hsm_settings) = config.hosted();
    let deadline = Duration::from_millis(hsm_settings.deadline_ms);
    let (hsm, control) = WorkerPool::attach(control, hsm_settings.workers, deadline)?;
    let found = outside.and_then(|core| {
        let (peer, followed, group, told) = (peer?, followed?, group?, told?);
        let (archive, signing) = (archive?, signing?);
        Ok((Beyond { core, peer, followed, group, told, archive, signing }, store?))
    });
    let (beyond, store) = match found {
        Ok(found) => found,
        // The pool is still there: without it the supervisor could not be told.
        Err(failure) => return control.failed(&failure),
    };
    // A start that fails drops its pool, and the last one closes the control socket: this one stays until it is told.
    let pool = Arc::clone(&hsm);
    let ended = match start(state, &config, beyond, &store, hsm, confinement, doors) {
        Ok(front) => front.run(&control),
        Err(failure) => {
            // The supervisor shows it; saying it here too would say it twice.
            control.failed(&failure)
        }
    };
    drop(pool);
    ended
}

/// Who is asked outside and who comes from there; what it takes was read before the front was confined.
struct Beyond {
    core: Option<banking::Outside>,
    followed: Option<Place>,
    /// The other party's daemon.
    peer: Option<PeerPlace>,
    /// Who reaches the admin socket besides the daemon's own user.
    group: Option<AdminGroup>,
    /// Who is told of what was decided.
    told: notify::Outside,
    /// Where the log is archived.
    archive: Option<archive::Outside>,
    /// Where other programs have things signed, and who they are.
    signing: Option<signing::Socket>,
}

struct Front {
    runtime: tokio::runtime::Runtime,
    services: Arc<Services>,
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    ports: Value,
}

fn start(
    state: &StateDir,
    config: &Config,
    beyond: Beyond,
    store: &StorePlace,
    hsm: Arc<WorkerPool>,
    confinement: confine::Confinement,
    doors: Doors,
) -> Result<Front, Failure> {
    let (party, party_settings, hsm_settings) = config.hosted();
    let space = Arc::new(Space::new(store.places(state), config.store.reserved_free_mib));
    let store = store.open()?;
    // Before anything is recorded.
    audit::sealing::begin(&*store, &(Arc::clone(&hsm) as Arc<dyn crate::hsm::Token>), party.as_str(), &config.audit)?;
    let authority = Authority::open(AuthoritySetup {
        party: party.clone(),
        kind: party_settings.kind,
        state: state.clone(),
        pki: config.pki.clone(),
        algorithms: hsm_settings.algorithms.clone(),
        token: Arc::clone(&hsm) as Arc<dyn crate::hsm::Token>,
        store: Arc::clone(&store),
    })?;
    if let Err(failure) = authority.tidy_up() {
        tracing::warn!(name = %failure.name, message = %failure.message, "half-written files stay where they are");
    }
    if let Some(place) = beyond.peer {
        authority.reach(PeerClient::start(place)?);
    }
    let as_client = Arc::clone(&authority) as Arc<dyn ClientIdentity>;
    let vault = Arc::new(Vault::new(VaultSetup {
        store: Arc::clone(&store),
        token: Arc::clone(&hsm) as Arc<dyn crate::hsm::Token>,
        party: party.clone(),
        trust_domain: config.pki.trust_domain.clone(),
        algorithm: hsm_settings.algorithms.get(&Purpose::VaultWrapping).copied(),
    }));
    let slots = beyond.told.secrets().into_iter().chain(beyond.core.as_ref().and_then(banking::Outside::secret));
    let slots = slots.chain(beyond.archive.as_ref().and_then(archive::Outside::secret));
    let feed = Arc::new(Feed::new(Arc::clone(&vault), slots));
    let core = beyond.core.map(|outside| banking::HttpCore::start_as(outside, Some(as_client))).transpose()?;
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("front")
        .build()
        .map_err(|error| Failure::fault("runtime_failed", error.to_string(), "check the process limits"))?;
    let _entered = runtime.enter();
    let notifier = Notifier::new(Arc::clone(&store), party.clone(), config.notify.clone(), beyond.told);
    let archive = beyond.archive.map(|outside| Archive::new(outside, state));
    let services = Services::open(ServicesSetup {
        party: party.clone(),
        kind: party_settings.kind,
        state: state.clone(),
        settings: FrontSettings {
            policy: config.policy.clone(),
            payment: config.payment.clone(),
            breaker: config.breaker.clone(),
            audit: config.audit.clone(),
            monitor: config.monitor.clone(),
            witness: config.witness.clone(),
            pki: config.pki.clone(),
            agents: config.agents,
            signing: config.signing.clone(),
        },
        operators: Operators::new(config.operator.clone(), config.demo.clone()).of_group(beyond.group),
        hsm,
        store,
        authority,
        core: core.map(|core| core as Arc<dyn CoreBanking>),
        notifier: Some(Arc::clone(&notifier)),
        archive: archive.clone(),
        vault,
        feed,
        confinement,
        space,
    })?;

    // A store that is older than what others have seen does nothing: no order, no mail, no checkpoint, no answer. One command
    // is let in all the same, to find out why; what it records is not signed here.
    let purpose = match doors {
        Doors::All => witness::asking::Purpose::Serving,
        Doors::AdminOnly => witness::asking::Purpose::Command,
    };
    match (doors, witness::asking::at_start(&services, purpose)) {
        (_, Ok(())) => services.begin()?,
        (Doors::All, Err(failure)) => return Err(failure),
        (Doors::AdminOnly, Err(failure)) => {
            tracing::warn!(name = %failure.name, message = %failure.message, "nothing is signed");
        }
    }
    let stop = CancellationToken::new();
    let mut tasks = Vec::new();

    let admin = admin_socket::bind(&state.admin_socket())?;
    if let Some(group) = services.setup.operators.group() {
        group.open(state)?;
    }
    tasks.push(runtime.spawn(admin_socket::serve(admin, Arc::clone(&services), stop.clone())));
    let mut ports = json!({});
    if doors == Doors::All {
        // Before any door is open: nobody is served without a lease.
        if let Err(failure) = services.renew_lease() {
            tracing::warn!(name = %failure.name, "the lease of this node will be asked for again");
        }
        tasks.push(runtime.spawn(renew_lease(Arc::clone(&services), stop.clone())));
        tasks.push(runtime.spawn(maintain(Arc::clone(&services), stop.clone())));
        if !services.setup.feed.is_empty() {
            // Before anything is sent or asked; what stays sealed now is read when the HSM answers.
            services.feed();
            tasks.push(runtime.spawn(feed_credentials(Arc::clone(&services), stop.clone())));
        }
        if let Err(fault) = notifier.begin() {
            tracing::warn!(%fault, "people are told of what is decided from the first look at the log on");
        }
        tasks.extend(notifier.start(&stop));
        if let Some(archive) = archive {
            tasks.push(runtime.spawn(archive_log(Arc::clone(&services), archive, stop.clone())));
        }
        if party_settings.kind == PartyKind::Bank {
            tasks.push(runtime.spawn(watching::watch(Arc::clone(&services), stop.clone())));
            tasks.push(runtime.spawn(guard_payments(Arc::clone(&services), stop.clone())));
            // Before any door is open: a call is scored beside what the log says.
            watched::catch_up(&services)?;
            tasks.push(runtime.spawn(watched::follow(Arc::clone(&services), stop.clone())));
        }
        if services.setup.core.is_some() {
            tasks.push(runtime.spawn(deliver(Arc::clone(&services), stop.clone())));
        }
        if config.audit.peer_lease == PeerLease::On && party_settings.kind == PartyKind::Bank {
            hold_peer_lease(&services, &stop)?;
        }
        if services.cosigning().is_some() {
            ask_witness(&services, &stop)?;
            // Before any door is open: what has waited too long already stops money from the first call on.
            if let Err(failure) = guard_turn(&services) {
                tracing::warn!(name = %failure.name, "the breaker will be looked at again");
            }
        }
        if config.peer.is_some() || config.listen.peer.is_some() {
            tasks.push(runtime.spawn(tend_issuances(Arc::clone(&services), stop.clone())));
        }
        if party_settings.kind == PartyKind::AgentHost {
            let keys = Arc::new(AgentKeysGate::new(Arc::clone(&services)));
            let socket = admin_socket::bind(&state.agent_socket())?;
            tasks.push(runtime.spawn(agent_socket::serve(socket, keys, stop.clone())));
        }
        if let Some(socket) = beyond.signing {
            let desk = signing_desk(&services, &config.signing, socket.callers);
            tasks.push(runtime.spawn(signing::serve(socket.listener, Arc::clone(&desk), stop.clone())));
            tasks.push(runtime.spawn(desk.tend(stop.clone())));
        }
        if party_settings.kind.certifies() {
            tasks.push(runtime.spawn(publish(Arc::clone(&services), stop.clone())));
            if let Some(source) = beyond.followed {
                tasks.push(runtime.spawn(follow(source, Arc::clone(&services), stop.clone())));
            }
            if let Some(address) = config.pki.listen {
                let (listening, bound) = bind(address, "[pki] listen")?;
                ports["pki"] = bound;
                let authority = Arc::clone(&services.setup.authority);
                let publication = Publication::new(authority, Arc::clone(&services.responder));
                let publication = Arc::new(if config.witness.log.is_empty() {
                    publication
                } else {
                    publication.cosigning(Arc::clone(&services))
                });
                tasks.push(runtime.spawn(serve_pki(listening, publication, stop.clone())));
            }
        }
        let pages = match config.listen.console {
            Some(address) => {
                let (listening, bound) = bind(address, "[listen] console")?;
                let base = config.listen.console_url.clone();
                services.pages_at(base.unwrap_or_else(|| console_address(address, &bound)));
                ports["console"] = bound;
                Some(listening)
            }
            None => None,
        };
        if let Some(address) = config.listen.mcp {
            let (listening, bound) = bind(address, "[listen] mcp")?;
            ports["mcp"] = bound;
            tasks.push(runtime.spawn(listen(listening, pages, config.clone(), Arc::clone(&services), stop.clone())));
        }
        if let Some(address) = config.listen.peer {
            let (listening, bound) = bind(address, "[listen] peer")?;
            ports["peer"] = bound;
            let limits = config.listen.peer_limits.clone();
            tasks.push(runtime.spawn(listen_to_peers(listening, Arc::clone(&services), limits, stop.clone())));
        }
        // Whole at every moment: bridges look it up at each connection.
        let beside = state.ports().with_extension("json.new");
        let written = std::fs::write(&beside, format!("{ports}\n"));
        written.and_then(|()| std::fs::rename(&beside, state.ports())).map_err(|error| {
            Failure::fault("ports_unwritable", format!("run/ports.json: {error}"), "check the state directory")
        })?;
    }
    drop(_entered);
    Ok(Front { runtime, services, stop, tasks, ports })
}

/// The signing service of this daemon.
fn signing_desk(services: &Arc<Services>, settings: &SigningSettings, callers: signing::Callers) -> Arc<signing::Desk> {
    let (logged, asked) = (Arc::clone(services), Arc::clone(&services.setup.hsm));
    signing::Desk::new(signing::DeskSetup {
        settings: settings.clone(),
        callers,
        store: Arc::clone(&services.setup.store),
        token: services.token(),
        recorded: Box::new(move || {
            if let Ok(log) = logged.log() {
                log.notify();
            }
        }),
        hsm_is_up: Box::new(move || asked.health().state != HsmState::Down),
        // A bank forgets its payments' keys, and these with them.
        forgets: services.setup.kind != PartyKind::Bank,
    })
}

/// Under which people reach the console where nobody has said so: passkeys need a host name, and this machine has one for
/// itself.
fn console_address(address: std::net::SocketAddr, bound: &Value) -> String {
    let bound = bound.as_str().unwrap_or_default();
    match bound.rsplit_once(':') {
        Some((_, port)) if address.ip().is_loopback() => format!("https://localhost:{port}"),
        Some(_) | None => format!("https://{bound}"),
    }
}

/// Listens on an address; answers which one it is.
fn bind(address: std::net::SocketAddr, key: &str) -> Result<(std::net::TcpListener, Value), Failure> {
    let listening = std::net::TcpListener::bind(address).map_err(|error| {
        Failure::fault(
            "address_in_use",
            format!("{address} cannot be listened on: {error}"),
            format!("choose another address in {key}, or port 0 for a free one"),
        )
    })?;
    let bound = listening.local_addr().map_err(|error| {
        Failure::fault("address_unknown", error.to_string(), format!("choose another address in {key}"))
    })?;
    Ok((listening, bound.to_string().into()))
}

impl Front {
    /// Serves until the supervisor says stop or is gone; then lets what is in progress end.
    fn run(self, control: &ControlHandle) -> Result<(), Failure> {
        control.ready(self.ports)?;
        tracing::info!(party = %self.services.setup.party, "serving");
        control.wait_stop();
        self.stop.cancel();
        for task in self.tasks {
            let _ = self.runtime.block_on(task);
        }
        self.runtime.shutdown_timeout(Duration::from_secs(10));
        self.services.stop();
        tracing::info!(party = %self.services.setup.party, "stopped");
        Ok(())
    }
}

/// Serves other parties from the moment that this one has a TLS server certificate and trusts another party.
async fn listen_to_peers(
    listening: std::net::TcpListener,
    services: Arc<Services>,
    limits: PeerLimitSettings,
    stop: CancellationToken,
) {
    while !services.setup.authority.meets_peers() {
        tokio::select! {
            () = tokio::time::sleep(SETUP_POLL_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
    match PeerListener::start(listening, Arc::clone(&services), limits) {
        Ok(listener) => {
            services.setup.authority.listening_with(listener.key());
            retire_superseded(&services).await;
            stop.cancelled().await;
            drop(listener);
        }
        Err(failure) => {
            tracing::error!(name = %failure.name, message = %failure.message, "the peer listener did not start");
        }
    }
}

/// Serves the MCP listener from the moment that the bank is set up. The port is bound from the start, so that
/// clients that come early wait instead of being turned away.
async fn listen(
    listening: std::net::TcpListener,
    pages: Option<std::net::TcpListener>,
    config: Config,
    services: Arc<Services>,
    stop: CancellationToken,
) {
    let began = clock::now();
    while !services.missing().is_empty() {
        tokio::select! {
            () = tokio::time::sleep(SETUP_POLL_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
    let Some(policy) = &config.policy else {
        return;
    };
    let gates = Arc::new(Gates::new(Arc::clone(&services)));
    let live = pages.as_ref().map(|_| Live::start(Arc::clone(&services), stop.clone()));
    let started = services.setup.authority.tls_identity().and_then(|identity| {
        services.setup.authority.listening_with(identity.key.id);
        let log = || LogDoor::new(Arc::clone(&services), config.audit.serve.clone());
        let console = || Console::new(Arc::clone(&services), log(), live.clone(), config.shown());
        let started =
            pages.map(|pages| Pages::start(pages, &identity, services.token(), console(), stop.clone())).transpose();
        let pages = started.unwrap_or_else(|Failure { name, message, .. }| {
            tracing::error!(%name, %message, "the pages for people are not served");
            None
        });
        let listener = Listener::start(ListenerSetup {
            listening,
            began,
            identity,
            token: services.token(),
            limits: config.listen.limits.clone(),
            pair_gate: Arc::clone(&gates) as Arc<dyn crate::tls::PairGate>,
            tool_gate: Arc::clone(&gates) as Arc<dyn crate::mcp::server::ToolGate>,
            token_gate: Arc::clone(&gates) as Arc<dyn crate::front::oauth::TokenGate>,
            turns: gates,
            connections: Arc::clone(&services.connections),
            currency: policy.currency,
            hosts: config.pki.tls_names.clone(),
        })?;
        Ok((listener, pages))
    });
    match started {
        Ok((listener, _pages)) => {
            retire_superseded(&services).await;
            stop.cancelled().await;
            listener.stop().await;
            if let Some(live) = live {
                live.ended().await;
            }
        }
        Err(failure) => tracing::error!(name = %failure.name, message = %failure.message, "the listener did not start"),
    }
}

/// The listener has started with the newest certified key: the ones before it have no use any more.
async fn retire_superseded(services: &Arc<Services>) {
    let authority = Arc::clone(&services.setup.authority);
    let actor = Actor::System { component: "listener".into() };
    let retired = tokio::task::spawn_blocking(move || authority.retire_superseded(&actor, Purpose::TlsServer)).await;
    match retired {
        Ok(Ok(labels)) if labels.is_empty() => {}
        Ok(Ok(labels)) => tracing::info!(keys = labels.join(" "), "replaced keys retired"),
        Ok(Err(failure)) => tracing::warn!(name = %failure.name, "replaced keys will be retired at the next start"),
        Err(_) => tracing::error!("retiring replaced keys met a defect"),
    }
}

/// Says all the time that this node serves, and acts on what other nodes revoked. A task of its own: whatever else is
/// slow must not make this node refuse its callers.
async fn renew_lease(services: Arc<Services>, stop: CancellationToken) {
    let mut turns = tokio::time::interval(RENEWAL_INTERVAL);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = turns.tick() => {}
            () = stop.cancelled() => return,
        }
        let turn = Arc::clone(&services);
        match tokio::task::spawn_blocking(move || turn.renew_lease()).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::warn!(name = %failure.name, "the lease of this node was not renewed"),
            Err(_) => tracing::error!("renewing the lease met a defect"),
        }
    }
}

/// A thread that is not waited for at the end: its question may take seconds, and the lease ends with the process.
fn hold_peer_lease(services: &Arc<Services>, stop: &CancellationToken) -> Result<(), Failure> {
    let (services, stop) = (Arc::clone(services), stop.clone());
    let thread = std::thread::Builder::new().name("peer-lease".into());
    thread
        .spawn(move || peer_lease::holder::hold(&services, &stop))
        .map(drop)
        .map_err(|error| Failure::fault("runtime_failed", error.to_string(), "check the process limits"))
}

/// A thread that is not waited for at the end, as above: what it has asked for is asked again at the next start.
fn ask_witness(services: &Arc<Services>, stop: &CancellationToken) -> Result<(), Failure> {
    let (services, stop) = (Arc::clone(services), stop.clone());
    let thread = std::thread::Builder::new().name("witness".into());
    thread
        .spawn(move || witness::asking::hold(&services, &stop))
        .map(drop)
        .map_err(|error| Failure::fault("runtime_failed", error.to_string(), "check the process limits"))
}

async fn maintain(services: Arc<Services>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(MAINTENANCE_INTERVAL) => {}
            () = stop.cancelled() => {}
        }
        let turn = Arc::clone(&services);
        match tokio::task::spawn_blocking(move || turn.maintain()).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::warn!(name = %failure.name, "maintenance will be tried again"),
            Err(_) => tracing::error!("maintenance met a defect"),
        }
        if stop.is_cancelled() {
            return;
        }
    }
}

/// Looks at the vault for what the daemon itself needs. A task of its own: the HSM may be slow.
async fn feed_credentials(services: Arc<Services>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(FEED_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
        let turn = Arc::clone(&services);
        if tokio::task::spawn_blocking(move || turn.feed()).await.is_err() {
            tracing::error!("reading credentials met a defect");
        }
    }
}

/// At an agent host renews what is due, at a bank gives up what nobody went on with, at a security company forgets what
/// was asked long ago. The other party may be slow: a task of its own.
async fn tend_issuances(services: Arc<Services>, stop: CancellationToken) {
    for turn_number in 0_u64.. {
        let turn = Arc::clone(&services);
        let tended = tokio::task::spawn_blocking(move || {
            let authority = &turn.setup.authority;
            // It reads the whole desk, and what it finds is weeks old.
            if turn_number.is_multiple_of(FORGETTING_TURNS) {
                authority.forget_requests()?;
            }
            authority.abandon_stale()?;
            for Renewal { agent, outcome } in authority.renew_due()? {
                match outcome {
                    Ok(_) => tracing::info!(%agent, "renewed"),
                    Err(Failure { name: why, message, next_step, .. }) => {
                        tracing::warn!(%agent, %why, %message, %next_step, "not renewed; tried again in a minute");
                    }
                }
            }
            Ok::<(), Failure>(())
        });
        match tended.await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::warn!(name = %failure.name, "issuances will be looked at again"),
            Err(_) => tracing::error!("tending issuances met a defect"),
        }
        tokio::select! {
            () = tokio::time::sleep(TENDING_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Publishes lists: what is known already at once, a fresh one when it is due, looked at every second. A task of its
/// own: a long list must not hold up anything else.
async fn publish(services: Arc<Services>, stop: CancellationToken) {
    let first = Arc::clone(&services);
    let known = tokio::task::spawn_blocking(move || first.setup.authority.serve_known_lists()).await;
    if !matches!(known, Ok(Ok(()))) {
        tracing::warn!("the lists that were published before cannot be served");
    }
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        pause = PUBLICATION_INTERVAL;
        let turn = Arc::clone(&services);
        match tokio::task::spawn_blocking(move || turn.publish()).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) if failure.name == "party_not_initialised" => {}
            Ok(Err(failure)) => {
                tracing::warn!(name = %failure.name, message = %failure.message, "lists will be signed later");
            }
            Err(_) => tracing::error!("publication met a defect"),
        }
    }
}

async fn serve_pki(listening: std::net::TcpListener, publication: Arc<Publication>, stop: CancellationToken) {
    if let Err(failure) = pki::serve(listening, publication, stop).await {
        tracing::error!(name = %failure.name, message = %failure.message, "nothing is published over HTTP");
    }
}

/// Tells the core banking system what it was not known to have heard, with a backoff while it is away. A task of its
/// own: a slow core must not hold up anything else.
async fn deliver(services: Arc<Services>, stop: CancellationToken) {
    let mut pause = DELIVERY_PAUSE_FIRST;
    while !stop.is_cancelled() {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        let (turn, stopping) = (Arc::clone(&services), stop.clone());
        let delivered = tokio::task::spawn_blocking(move || match turn.payments() {
            Ok(payments) => payments.deliver_outbox(|| !stopping.is_cancelled()),
            Err(_) => Ok(Outbox::Empty),
        });
        pause = match delivered.await {
            Ok(Ok(Outbox::Empty)) => DELIVERY_PAUSE_FIRST,
            Ok(Ok(Outbox::Waiting)) => (pause * 2).min(DELIVERY_PAUSE_MAX),
            Ok(Err(failure)) => {
                tracing::warn!(name = %failure.name, "orders to the core banking system will be tried again");
                DELIVERY_PAUSE_MAX
            }
            Err(_) => {
                tracing::error!("delivery to the core banking system met a defect");
                DELIVERY_PAUSE_MAX
            }
        };
    }
}

/// Looks every moment whether payments have to stop, or may go on. A task of its own: its probes may be slow.
async fn guard_payments(services: Arc<Services>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(GUARD_PAUSE) => {}
            () = stop.cancelled() => return,
        }
        let turn = Arc::clone(&services);
        match tokio::task::spawn_blocking(move || guard_turn(&turn)).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::warn!(name = %failure.name, "the breaker will be looked at again"),
            Err(_) => tracing::error!("the breaker met a defect"),
        }
    }
}

fn guard_turn(services: &Services) -> Result<(), Failure> {
    let Ok(payments) = services.payments() else { return Ok(()) };
    payments.breaker_turn(match services.setup.hsm.health().state {
        HsmState::Up | HsmState::Degraded => Reached::Yes,
        HsmState::Down | HsmState::Probing => Reached::No,
    })
}

/// Copies the log to where it cannot be changed, round by round. A task of its own, and nobody waits for it.
async fn archive_log(services: Arc<Services>, archive: Arc<Archive>, stop: CancellationToken) {
    let mut failed = 0_u32;
    loop {
        if let Ok(log) = services.log() {
            let round = tokio::select! {
                round = archive.round(log, |_, _| {}) => round,
                // What it has written is compared when it is written again.
                () = stop.cancelled() => return,
            };
            failed = if round.is_ok() { 0 } else { failed.saturating_add(1) };
        }
        tokio::select! {
            () = tokio::time::sleep(archive.pause(failed)) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Every connection is a descriptor, and the usual soft limit is 1,024: takes what the hard limit allows.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// What `migrate` does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Migration {
    /// Brings the schema up to date.
    Run,
    /// Only tells.
    Look,
}

/// Brings a party's store to the schema of this program, or says how far it is. The daemon must be down.
///
/// # Errors
/// `already_running`, `schema_too_new`; the store's.
pub fn migrate(state: &StateDir, what: Migration) -> Result<Schema, Failure> {
    let config = Config::load(state)?;
    let _lock = supervisor::take_lock(state)?;
    let place = StorePlace::find(state, &config)?;
    let schema = place.schema()?;
    if what == Migration::Run && !schema.waiting.is_empty() {
        place.open()?;
    }
    Ok(schema)
}

/// Whether the store and the core banking system that a configuration names can be reached with what it gives: files of
/// secrets and roots, addresses, TLS. Nothing is opened.
///
/// # Errors
/// What `serve` would say: `store_url_unknown`, `store_url_malformed`, `core_root_unusable`, …
pub fn check_places(state: &StateDir, config: &Config) -> Result<(), Failure> {
    StorePlace::find(state, config)?;
    let refused = Unresolved::Refused;
    config.banking.as_ref().map(|banking| banking::Outside::read(banking, state, refused)).transpose()?;
    config.peer.as_ref().map(|peer| PeerPlace::find(peer, refused)).transpose()?;
    follow::source(&config.pki, refused)?;
    notify::Outside::read(&config.notify, state, refused)?;
    let archive = config.audit.archive.as_ref();
    archive.map(|archive| archive::Outside::read(archive, state, refused)).transpose()?;
    AdminGroup::find(&config.admin)?;
    signing::Callers::find(&config.signing)?;
    Ok(())
}

/// Where the store is: a file, or a server with everything that is needed to reach it.
enum StorePlace {
    Sqlite(PathBuf, Keep),
    Postgres(Box<Endpoint>),
}

impl StorePlace {
    fn find(state: &StateDir, config: &Config) -> Result<Self, Failure> {
        let settings = &config.store;
        if Endpoint::is_named_by(&settings.url) {
            return Ok(Self::Postgres(Box::new(Endpoint::read(settings, state)?)));
        }
        let path = settings.url.strip_prefix("sqlite:").filter(|path| !path.is_empty());
        let keep = Keep::days(settings.idempotency_days);
        path.map(|path| Self::Sqlite(state.resolve(path), keep)).ok_or_else(|| {
            Failure::usage(
                "store_url_unknown",
                format!("[store] url = {:?} is neither sqlite:<path> nor postgres://…", settings.url),
                "write sqlite:store/store.sqlite3, or postgres://user@host:port/database",
            )
        })
    }

    /// Directories whose disks are this machine's: the state directory, and where the store's file is.
    fn places(&self, state: &StateDir) -> Vec<PathBuf> {
        let file = match self {
            Self::Sqlite(path, _) => path.parent().map(Path::to_owned),
            Self::Postgres(_) => None,
        };
        std::iter::once(state.root().to_owned()).chain(file).collect()
    }

    fn schema(&self) -> Result<Schema, Failure> {
        Ok(match self {
            Self::Sqlite(path, _) => SqliteStore::schema(path)?,
            Self::Postgres(endpoint) => PostgresStore::schema(endpoint)?,
        })
    }

    fn open(&self) -> Result<Arc<dyn Store>, Failure> {
        Ok(match self {
            Self::Sqlite(path, keep) => SqliteStore::open_keeping(path, *keep)?,
            Self::Postgres(endpoint) => PostgresStore::open(endpoint)?,
        })
    }
}
