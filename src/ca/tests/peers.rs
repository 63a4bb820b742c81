//! The bank's side of an issuance against a company that lies, officers who are one person, races, and files that are
//! not what was written; and the company's desk against a bank that asks without end.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use http::Method;

use super::desk::{administrator, approval, bank, id, officer, revoked_serials, unasserted};
use super::*;
use crate::kernel::credential::operator::SignedApproval;
use crate::kernel::credential::pair::PairRefusal;
use crate::kernel::types::{AgentName, PartyName, RequestId};
use crate::ops::failure::Kind as FailureKind;
use crate::tls::TlsSigner;
use crate::tls::peer::Peer;

/// What becomes of an answer on its way to the bank.
type Bend = Box<dyn Fn(Value) -> Value + Send>;
/// What happens at the bank while the company is asked.
type Meanwhile = Box<dyn FnOnce() + Send>;

/// The security company as the bank reaches it: its real desk, with a word in between.
#[derive(Clone)]
struct Company(Arc<CompanyState>);

struct CompanyState {
    secco: Arc<Authority>,
    bend: Mutex<Bend>,
    meanwhile: Mutex<Option<Meanwhile>>,
    asked: Mutex<Vec<String>>,
    is_away: AtomicBool,
}

impl Company {
    fn of(all: &Installation) -> Self {
        let state = CompanyState {
            secco: Arc::clone(&all.secco.authority),
            bend: Mutex::new(Box::new(|answer| answer)),
            meanwhile: Mutex::default(),
            asked: Mutex::default(),
            is_away: AtomicBool::new(false),
        };
        let company = Self(Arc::new(state));
        all.bank.authority.reach(company.clone());
        company
    }

    fn bends(&self, bend: impl Fn(Value) -> Value + Send + 'static) {
        *self.0.bend.lock().unwrap() = Box::new(bend);
    }

    fn asked(&self) -> usize {
        self.0.asked.lock().unwrap().len()
    }
}

impl Peer for Company {
    fn ask(
        &self,
        _root: &[u8],
        _chain: &[Vec<u8>],
        _signer: Arc<dyn TlsSigner>,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        self.0.asked.lock().unwrap().push(format!("{method} {path}"));
        if let Some(meanwhile) = self.0.meanwhile.lock().unwrap().take() {
            meanwhile();
        }
        if self.0.is_away.load(Ordering::SeqCst) {
            return Err(Failure::busy("peer_unreachable", "away", "wait"));
        }
        let id: RequestId = path.rsplit('/').next().unwrap().parse().unwrap();
        let answer = match method {
            Method::PUT => self.0.secco.endorsement_put(&bank(), &id, body.unwrap()),
            Method::GET => self.0.secco.endorsement_get(&bank(), &id),
            Method::DELETE => self.0.secco.endorsement_abandon(&bank(), &id),
            other => panic!("the bank asks {other}"),
        }?;
        Ok((self.0.bend.lock().unwrap())(answer))
    }

    fn answers(
        &self,
        _root: &[u8],
        _chain: &[Vec<u8>],
        _signer: Arc<dyn TlsSigner>,
        _within: Duration,
    ) -> Result<(), Failure> {
        if self.0.is_away.load(Ordering::SeqCst) {
            Err(Failure::busy("peer_unreachable", "away", "wait"))
        } else {
            Ok(())
        }
    }
}

fn name(text: &str) -> AgentName {
    text.parse().unwrap()
}

fn approve(at: &Party, person: &Party, request: &Value) -> SignedApproval {
    let signed = approval(person, at.authority.party().as_str(), request, 30);
    at.authority.cert_approve(&unasserted(), &signed).unwrap();
    signed
}

/// Everything is approved by two people, and nothing is asked yet.
fn approved() -> (Installation, Company, Value, Party, Party) {
    let all = installation();
    let company = Company::of(&all);
    let (carol, dora) = (officer("carol", &all.secco, &["officer"]), officer("dora", &all.bank, &["officer"]));
    let request = all.request("shopper", None);
    approve(&all.secco, &carol, &request);
    approve(&all.bank, &dora, &request);
    (all, company, request, carol, dora)
}

fn issue(all: &Installation, request: &Value) -> Result<Value, Failure> {
    all.bank.authority.cert_issue(&unasserted(), request, None)
}

fn endorsed(all: &Installation, request: &Value) -> String {
    issue(all, request).unwrap()["endorsement_pem"].as_str().unwrap().to_owned()
}

fn issuance_file(all: &Installation) -> std::path::PathBuf {
    let directory = all.bank.path("certs/issuances");
    let mut names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    names.next().expect("an issuance is under way")
}

#[test]
fn what_a_company_answers_is_believed_for_its_signature_and_for_this_agent_alone() {
    let (all, company, request, carol, _dora) = approved();
    let drifter = all.request("drifter", None);
    let of_drifter = approve(&all.secco, &carol, &drifter);
    let of_another = all.secco.authority.endorsement_put(&bank(), &id(7), &drifter).unwrap();
    let other_pem = of_another["certificate_pem"].clone();
    let own_pem = json!(all.bank.file("certs/tls-client.pem"));
    let bent = |member: &'static str, value: Value| {
        move |mut answer: Value| {
            answer[member] = value.clone();
            answer
        }
    };
    let mut later = of_drifter.clone();
    later.approval.agent = "spiffe://countersign.example/agent/treasurer/shopper".parse().unwrap();
    let table: Vec<(&str, Bend, &str)> = vec![
        ("somebody else's S", Box::new(bent("certificate_pem", other_pem)), PairRefusal::KeyMismatch.name()),
        ("no S", Box::new(bent("certificate_pem", Value::Null)), PairRefusal::EndorsementMalformed.name()),
        ("text", Box::new(bent("certificate_pem", json!("-----"))), PairRefusal::EndorsementMalformed.name()),
        ("one of ours", Box::new(bent("certificate_pem", own_pem)), "endorsement_malformed"),
        ("no approval", Box::new(bent("approval", Value::Null)), "endorsement_unapproved"),
        ("an approval of another agent", Box::new(bent("approval", json!(of_drifter))), "endorsement_unapproved"),
        ("an approval of another role", Box::new(bent("approval", json!(later))), "endorsement_unapproved"),
        ("a list of approvals", Box::new(bent("approval", json!([]))), "endorsement_unapproved"),
        ("abandoned", Box::new(bent("state", json!("abandoned"))), "endorsement_refused"),
        ("a state of its own", Box::new(bent("state", json!({}))), "endorsement_refused"),
        ("nothing", Box::new(|_| Value::Null), "endorsement_refused"),
        ("still waiting", Box::new(bent("state", json!("pending"))), "endorsement_pending"),
    ];
    for (what, bend, expected) in table {
        *company.0.bend.lock().unwrap() = bend;
        let refused = name_of(issue(&all, &request));
        // What is none of the company's at all is refused at whichever rule comes first.
        let fits = refused == expected || (what == "one of ours" && refused.starts_with("endorsement_"));
        assert!(fits, "{what}: {refused}");
    }
    company.bends(|answer| answer);
    assert_eq!(issue(&all, &request).unwrap()["state"], "endorsed");
}

#[test]
fn nobody_endorses_and_issues_the_same_agent_whenever_the_approval_was_given() {
    let all = installation();
    let company = Company::of(&all);
    let carol = officer("carol", &all.secco, &["officer"]);
    // The same person, with the same token, is an officer of both.
    let hers = carol.authority.operator_show(&unasserted()).unwrap();
    all.bank.authority.operator_enrol(&administrator(), &hers, &["officer".to_owned()], None).unwrap();
    let dora = officer("dora", &all.bank, &["officer"]);
    let request = all.request("shopper", None);
    approve(&all.secco, &carol, &request);

    // With the request, ahead of it, and at the proof.
    let with_it = approval(&carol, "bank", &request, 30);
    let at_once = all.bank.authority.cert_issue(&unasserted(), &request, Some(&with_it));
    assert_eq!(name_of(at_once), "same_person");
    approve(&all.bank, &carol, &request);
    assert_eq!(name_of(issue(&all, &request)), "same_person");
    approve(&all.bank, &dora, &request);
    let proof = all.request("shopper", Some(&endorsed(&all, &request)));
    let at_the_proof = all.bank.authority.cert_issue(&unasserted(), &proof, Some(&with_it));
    assert_eq!(name_of(at_the_proof), "same_person");
    approve(&all.bank, &dora, &request);
    issue(&all, &proof).unwrap();
    assert!(company.asked() > 0);
}

#[test]
fn what_is_given_up_stays_so_whatever_goes_on_at_the_same_time() {
    let (all, company, request, ..) = approved();
    let bank = Arc::clone(&all.bank.authority);
    let proof = all.request("shopper", Some(&endorsed(&all, &request)));

    // While a certificate is being made nobody gives the issuance up under it.
    let making = bank.begin_issuing().unwrap();
    assert_eq!(name_of(bank.cert_abandon(&chief(), &name("shopper"))), "issuance_in_progress");
    drop(making);
    assert!(std::fs::read_to_string(issuance_file(&all)).unwrap().contains("\"endorsed\""));

    // While the company is told, no certificate follows.
    let (issuing, late) = (Arc::clone(&bank), proof.clone());
    let refused = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&refused);
    *company.0.meanwhile.lock().unwrap() = Some(Box::new(move || {
        *heard.lock().unwrap() = name_of(issuing.cert_issue(&unasserted(), &late, None));
    }));
    let abandoned = bank.cert_abandon(&chief(), &name("shopper")).unwrap();
    assert_eq!(abandoned["items"][0]["state"], "abandoned");
    assert_eq!(*refused.lock().unwrap(), "issuance_abandoned");
    let agents = |party: &Party| {
        let all = party.store.certificates().unwrap();
        all.iter().filter(|record| record.profile.starts_with("agent-")).count()
    };
    assert_eq!((agents(&all.bank), agents(&all.secco)), (0, 1));

    // Nor later, nor under its old mark.
    assert_eq!(name_of(issue(&all, &proof)), "issuance_abandoned");
    assert_eq!(name_of(issue(&all, &request)), "issuance_abandoned");
    let text = std::fs::read_to_string(issuance_file(&all)).unwrap();
    let verified = bank.verify_request_at(&proof, clock::now()).unwrap();
    let (endorsement, record) = (verified.endorsement(clock::now()).unwrap(), all.bank.store.certificates().unwrap());
    bank.issuance_done(&verified, &proof, &endorsement, &record[0]).unwrap();
    assert_eq!(std::fs::read_to_string(issuance_file(&all)).unwrap(), text);
}

fn proof_key(request: &Value) -> crate::kernel::types::KeyId {
    let csr = pem::decode_one(Kind::Request, request["csr_pem"].as_str().unwrap()).unwrap();
    crate::kernel::credential::request::verify(&csr).unwrap().key()
}

#[test]
fn nobody_gives_up_what_is_not_theirs_to_give_up() {
    let (all, company, request, ..) = approved();
    endorsed(&all, &request);
    let bank = &all.bank.authority;
    let agent = all.enrol("drifter").0;
    let table = [
        (
            "an auditor",
            bank.cert_abandon(&operator(&["auditor", "approver"]), &name("shopper")),
            "operator_not_permitted",
        ),
        (
            "an administrator",
            bank.cert_abandon(&operator(&["administrator"]), &name("shopper")),
            "operator_not_permitted",
        ),
        ("of nobody", bank.cert_abandon(&chief(), &name("nobody")), "issuance_unknown"),
        ("of a complete one", bank.cert_abandon(&chief(), &name("drifter")), "issuance_unknown"),
        ("at another party", all.secco.authority.cert_abandon(&chief(), &name("shopper")), "not_this_party"),
    ];
    let asked = company.asked();
    for (what, refused, expected) in table {
        assert_eq!(name_of(refused), expected, "{what}");
    }
    assert_eq!(company.asked(), asked, "the company was asked nothing");
    assert!(!agent.is_empty());
}

#[test]
fn a_file_of_an_issuance_that_is_not_what_was_written_is_named_and_nothing_is_asked() {
    let (all, company, request, ..) = approved();
    let pem = endorsed(&all, &request);
    let proof = all.request("shopper", Some(&pem));
    let file = issuance_file(&all);
    let whole = std::fs::read_to_string(&file).unwrap();
    let asked = company.asked();
    let other_key = whole.replace(&proof_key(&proof).to_string(), &"5e".repeat(32));
    for (what, text) in [
        ("empty", String::new()),
        ("torn", whole[..whole.len() / 2].to_owned()),
        ("zeros", "\0".repeat(512)),
        ("of another key", other_key),
        ("of another schema", whole.replace("\"state\"", "\"mood\"")),
    ] {
        std::fs::write(&file, text).unwrap();
        for request in [&request, &proof] {
            let failure = issue(&all, request).unwrap_err();
            assert_eq!((failure.name.as_str(), failure.kind), ("issuance_unreadable", FailureKind::Fault), "{what}");
        }
        assert_eq!(
            name_of(all.bank.authority.cert_abandon(&chief(), &name("shopper"))),
            "issuance_unreadable",
            "{what}"
        );
    }
    // What another write left half behind is none of them.
    std::fs::write(&file, &whole).unwrap();
    std::fs::write(file.with_extension("json.00.new"), "{").unwrap();
    issue(&all, &proof).unwrap();
    // A directory that cannot be written: nothing is asked that would be forgotten.
    let (all, company, request, ..) = approved();
    std::fs::write(all.bank.path("certs/issuances"), "").unwrap();
    assert!(["file_unwritable", "file_unreadable"].contains(&name_of(issue(&all, &request)).as_str()));
    assert_eq!((company.asked(), asked > 0), (0, true));
}

#[test]
fn a_file_of_the_desk_that_is_not_what_was_written_is_named_and_nothing_is_endorsed() {
    let all = installation();
    let secco = &all.secco.authority;
    let carol = officer("carol", &all.secco, &["officer"]);
    let (request, other) = (all.request("shopper", None), all.request("drifter", None));
    secco.endorsement_put(&bank(), &id(1), &request).unwrap();
    secco.endorsement_put(&bank(), &id(2), &other).unwrap();
    approve(&all.secco, &carol, &request);
    approve(&all.secco, &carol, &other);
    let file = all.secco.path(&format!("certs/endorsements/{}.json", id(1)));
    let whole = std::fs::read_to_string(&file).unwrap();
    let of_another = std::fs::read_to_string(all.secco.path(&format!("certs/endorsements/{}.json", id(2)))).unwrap();
    let renamed = whole.replace("agent/purchaser/shopper", "agent/treasurer/shopper");
    for (what, text) in [
        ("empty", String::new()),
        ("torn", whole[..whole.len() / 2].to_owned()),
        ("of another request", of_another),
        ("of another schema", whole.replace("\"peer\"", "\"pear\"")),
    ] {
        std::fs::write(&file, text).unwrap();
        assert_eq!(name_of(secco.endorsement_put(&bank(), &id(1), &request)), "endorsement_unreadable", "{what}");
        assert_eq!(name_of(secco.endorsement_get(&bank(), &id(1))), "endorsement_unreadable", "{what}");
    }
    // An agent that nobody approved is written into it: the file is not believed.
    std::fs::write(&file, renamed).unwrap();
    let told = secco.endorsement_get(&bank(), &id(1)).unwrap();
    assert_eq!(told["state"], "pending", "{told}");
    std::fs::write(&file, &whole).unwrap();
    assert_eq!(secco.endorsement_put(&bank(), &id(1), &request).unwrap()["state"], "endorsed");
}

/// The same party with another limit, as after a restart with another configuration.
pub(super) fn with_room_for(party: &Party, peer_requests_max: u32) -> Arc<Authority> {
    Authority::open(AuthoritySetup {
        party: party.authority.party().clone(),
        kind: party.authority.kind(),
        state: StateDir::new(party.directory.path()),
        pki: PkiSettings { peer_requests_max, ..PkiSettings::default() },
        algorithms: BTreeMap::new(),
        token: party.token.clone(),
        store: party.store.clone(),
    })
    .unwrap()
}

#[test]
fn a_peer_has_room_for_so_many_requests_and_each_peer_has_its_own() {
    let all = installation();
    let secco = with_room_for(&all.secco, 2);
    let carol = officer("carol", &all.secco, &["officer"]);
    let requests: Vec<Value> = ["one", "two", "three", "four"].map(|name| all.request(name, None)).into();
    let full = "too_many_requests_waiting";
    secco.endorsement_put(&bank(), &id(1), &requests[0]).unwrap();
    // Given up before it came: it has to be remembered, and takes a place.
    secco.endorsement_abandon(&bank(), &id(2)).unwrap();
    assert_eq!(name_of(secco.endorsement_put(&bank(), &id(3), &requests[2])), full);
    assert_eq!(name_of(secco.endorsement_abandon(&bank(), &id(4))), full);
    // What is known is answered as ever.
    assert_eq!(secco.endorsement_put(&bank(), &id(1), &requests[0]).unwrap()["state"], "pending");
    assert_eq!(secco.endorsement_abandon(&bank(), &id(2)).unwrap()["state"], "abandoned");
    assert_eq!(name_of(secco.endorsement_put(&bank(), &id(2), &requests[1])), "request_abandoned");
    let other: PartyName = "other".parse().unwrap();
    secco.endorsement_put(&other, &id(5), &requests[3]).unwrap();
    // A restart counts from the files.
    let again = with_room_for(&all.secco, 2);
    assert_eq!(name_of(again.endorsement_put(&bank(), &id(3), &requests[2])), full);
    // What comes to its end makes room: endorsed, or given up.
    approve(&all.secco, &carol, &requests[0]);
    assert_eq!(again.endorsement_get(&bank(), &id(1)).unwrap()["state"], "endorsed");
    again.endorsement_put(&bank(), &id(3), &requests[2]).unwrap();
    assert_eq!(name_of(again.endorsement_put(&bank(), &id(6), &requests[1])), full);
    again.endorsement_abandon(&bank(), &id(3)).unwrap();
    again.endorsement_put(&bank(), &id(6), &requests[1]).unwrap();
}

fn desk(party: &Party) -> Vec<(String, String)> {
    let list = party.authority.endorsement_list(&chief()).unwrap();
    let text = |item: &Value, member: &str| item[member].as_str().unwrap().to_owned();
    list["items"].as_array().unwrap().iter().map(|item| (text(item, "request_id"), text(item, "state"))).collect()
}

#[test]
fn a_renewal_before_its_time_leaves_no_request_and_one_that_waits_takes_the_place_of_the_one_before() {
    let all = installation();
    let secco = with_room_for(&all.secco, 1);
    let carol = officer("carol", &all.secco, &["officer"]);
    let first = all.request("shopper", None);
    // Nobody has approved: a host that asks every minute has one request here.
    for number in 1..4 {
        secco.endorsement_put(&bank(), &id(number), &all.request("shopper", None)).unwrap();
        assert_eq!(desk(&all.secco), [(id(number).to_string(), "pending".to_owned())]);
    }
    assert_eq!(name_of(secco.endorsement_get(&bank(), &id(1))), "request_unknown");
    let other: PartyName = "other".parse().unwrap();
    secco.endorsement_put(&other, &id(4), &all.request("shopper", None)).unwrap();
    assert_eq!(desk(&all.secco).len(), 2, "another party's is its own");
    secco.endorsement_abandon(&other, &id(4)).unwrap();

    approve(&all.secco, &carol, &first);
    let endorsed = secco.endorsement_get(&bank(), &id(3)).unwrap();
    let (before, at_the_start) = (desk(&all.secco), with_room_for(&all.secco, 1));
    for (number, company) in [(5, &secco), (6, &at_the_start)] {
        let again = company.endorsement_put(&bank(), &id(number), &all.request("shopper", None)).unwrap();
        assert_eq!((&again["state"], &again["certificate_pem"]), (&json!("endorsed"), &endorsed["certificate_pem"]));
        assert!(again["approval"].is_object());
        assert_eq!(desk(&all.secco), before, "what S was made for is kept, and nothing else");
    }
}

/// As if it had been written two hours ago.
fn aged(file: &std::path::Path) {
    let mut issuance: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    issuance["since_unix_ms"] = json!(clock::now().plus_ms(-2 * 3_600_000).0);
    std::fs::write(file, issuance.to_string()).unwrap();
}

fn state(file: &std::path::Path) -> String {
    let issuance: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    issuance["state"].as_str().unwrap().to_owned()
}

#[test]
fn what_was_asked_and_never_answered_is_asked_about_and_given_up_in_its_time() {
    let (all, company, request, ..) = approved();
    let bank = &all.bank.authority;
    // S is signed, and its answer is lost.
    company.bends(|_| Value::Null);
    issue(&all, &request).unwrap_err();
    company.bends(|answer| answer);
    let file = issuance_file(&all);
    assert_eq!((state(&file).as_str(), bank.abandon_stale().unwrap()), ("asked", 0), "it has its time");

    aged(&file);
    company.0.is_away.store(true, Ordering::SeqCst);
    assert_eq!((bank.abandon_stale().unwrap(), state(&file).as_str()), (0, "asked"));
    company.0.is_away.store(false, Ordering::SeqCst);
    assert_eq!((bank.abandon_stale().unwrap(), state(&file).as_str()), (0, "endorsed"), "told now");
    assert_eq!(bank.abandon_stale().unwrap(), 0, "whoever goes on has an hour");
    assert_eq!(revoked_serials(&all.secco), 0);
    aged(&file);
    assert_eq!((bank.abandon_stale().unwrap(), state(&file).as_str()), (1, "abandoned"));
    assert_eq!(revoked_serials(&all.secco), 1);
    assert_eq!(name_of(issue(&all, &request)), "issuance_abandoned");
}

#[test]
fn what_was_never_heard_is_given_up_and_what_waits_for_an_officer_waits_on() {
    let (all, company, request, carol, dora) = approved();
    let bank = &all.bank.authority;
    company.0.is_away.store(true, Ordering::SeqCst);
    issue(&all, &request).unwrap_err();
    company.0.is_away.store(false, Ordering::SeqCst);
    let file = issuance_file(&all);
    aged(&file);
    assert_eq!((bank.abandon_stale().unwrap(), state(&file).as_str()), (1, "abandoned"));
    assert_eq!(revoked_serials(&all.secco), 0, "nothing was endorsed");

    // A fresh one, for which the company's officer takes days.
    let request = all.request("shopper", None);
    all.secco.authority.approval_withdraw(&unasserted(), Some(&name("shopper")), None).unwrap();
    assert_eq!(name_of(issue(&all, &request)), "endorsement_pending");
    for _ in 0..3 {
        aged(&file);
        let asked = company.asked();
        assert_eq!((bank.abandon_stale().unwrap(), state(&file).as_str()), (0, "asked"));
        assert_eq!(bank.abandon_stale().unwrap(), 0);
        assert_eq!(company.asked(), asked + 1, "once an hour");
    }
    while all.secco.authority.cert_approve(&unasserted(), &approval(&carol, "secco", &request, 30)).is_err() {}

    // A pair that is complete is not given up for want of an answer to a repeat.
    let proof = all.request("shopper", Some(&endorsed(&all, &request)));
    issue(&all, &proof).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("\"issued\""));
    std::fs::write(&file, text.replace("\"issued\"", "\"asked\"")).unwrap();
    aged(&file);
    assert_eq!((bank.abandon_stale().unwrap(), state(&file).as_str()), (0, "issued"));
    assert_eq!(revoked_serials(&all.secco), 0);
    drop(dora);
}

#[test]
fn what_one_party_gives_up_says_nothing_about_another_partys_request() {
    let all = installation();
    let secco = &all.secco.authority;
    let other: PartyName = "other".parse().unwrap();
    let request = all.request("shopper", None);
    secco.endorsement_abandon(&bank(), &id(1)).unwrap();
    secco.endorsement_abandon(&other, &id(1)).unwrap();
    assert_eq!(name_of(secco.endorsement_put(&bank(), &id(1), &request)), "request_abandoned");
    assert_eq!(name_of(secco.endorsement_put(&other, &id(1), &request)), "request_abandoned");
    secco.endorsement_abandon(&other, &id(2)).unwrap();
    assert_eq!(secco.endorsement_put(&bank(), &id(2), &request).unwrap()["state"], "pending");
}

#[test]
fn what_was_cut_off_is_given_up_although_its_agent_may_not_be_endorsed_any_more() {
    for after in ["revoked", "role gone"] {
        let all = installation();
        let secco = &all.secco.authority;
        let carol = officer("carol", &all.secco, &["officer"]);
        let request = all.request("shopper", None);
        approve(&all.secco, &carol, &request);
        all.secco.token.failing_signatures.store(1, Ordering::SeqCst);
        secco.endorsement_put(&bank(), &id(1), &request).unwrap_err();
        if after == "revoked" {
            let target = "spiffe://countersign.example/agent/purchaser/shopper";
            secco.revoke(&chief(), &wish(target, "x", RevokeMode::Effective)).unwrap();
        } else {
            let none = json!({
                "schema": "countersign/role-catalogue/v1", "version": 1,
                "roles": [{ "role": "clerk", "tools": ["list_accounts"] }],
            });
            secco.catalogue_sign(&chief(), &none).unwrap();
        }
        let signed = all.secco.token.signed_certificates.lock().unwrap().len();
        assert_eq!(secco.endorsement_abandon(&bank(), &id(1)).unwrap()["state"], "abandoned", "{after}");
        assert_eq!(revoked_serials(&all.secco), 1, "{after}: its number is revoked");
        assert_eq!(all.secco.token.signed_certificates.lock().unwrap().len(), signed, "{after}: nothing is signed");
        assert_eq!(secco.endorsement_get(&bank(), &id(1)).unwrap()["state"], "abandoned", "{after}");
    }
}

#[test]
fn a_role_that_left_the_catalogue_is_certified_no_more() {
    let (all, _company, request, ..) = approved();
    let proof = all.request("shopper", Some(&endorsed(&all, &request)));
    let narrow = json!({
        "schema": "countersign/role-catalogue/v1", "version": 1,
        "roles": [{ "role": "clerk", "tools": ["list_accounts"] }],
    });
    all.bank.authority.catalogue_sign(&chief(), &narrow).unwrap();
    assert_eq!(name_of(issue(&all, &proof)), "role_unknown");
    assert_eq!(name_of(issue(&all, &request)), "role_unknown");
}

#[test]
fn what_is_recorded_is_answered_as_recorded_whatever_fails_after_it() {
    let all = installation();
    all.enrol("shopper");
    let everyone = RevokeRequest {
        named: Named::Everyone,
        reason: "an incident".into(),
        mode: RevokeMode::Effective,
        after: None,
    };
    // This store gives no agent a row of its own, and tells no numbers.
    all.bank.store.0.lock().unwrap().counts_fail = true;
    let answer = all.bank.authority.revoke(&chief(), &everyone).unwrap();
    assert_eq!((&answer["recorded"], &answer["effective"]), (&json!(true), &json!(true)), "{answer}");
    let pending: Vec<&String> = answer["pending"].as_object().unwrap().keys().collect();
    assert_eq!(pending, ["affected", "spread"], "{answer}");
    assert!(answer["receipt"]["file"].is_string());
}
