//! Revocation, certificates and CRLs.

use super::world::*;
use countersign::kernel::command::*;
use countersign::kernel::refusal::Refusal;
use countersign::kernel::types::*;
use countersign::store::CertificatesOf;
use std::sync::Arc;

sentences! {
    a_revocation_voids_everything_unexecuted_at_once: |w| {
        w.bank();
        let transaction = w.approved(transfer("100", "k1"));
        let (approval, _) = w.waiting(transfer("2500", "k2"));
        assert_eq!(w.revoke_shopper(), Ok(Effect::Revoked { certificates: 0, authorizations: 2, already: false }));
        assert_eq!(w.revoke_shopper(), Ok(Effect::Revoked { certificates: 0, authorizations: 0, already: true }));
        let execute = execute_transfer(&transaction, "SAV_001", "100");
        for call in [execute, balance_of("CHK_001"), ToolCall::ListAccounts {}, cancel(&transaction)] {
            assert_eq!(w.call(call), Err(Refusal::AgentRevoked));
        }
        assert_eq!(w.answer_approval(&approval, Verdict::Approve), Err(Refusal::AgentRevoked));
        assert_eq!(w.sweep(), 2);
        assert_eq!(w.balance("CHK_001"), ("5247.83".into(), "0.00".into()));
        assert_eq!(w.answer_approval(&approval, Verdict::Approve), Err(Refusal::AgentRevoked));
        assert!(w.store.status().unwrap().agents.contains(&shopper().spiffe_id));
    };
    a_revocation_in_the_same_batch_stops_the_commands_after_it: |w| {
        w.bank();
        let revoke = Act::Revoke { target: RevocationTarget::Agent(shopper().spiffe_id), reason: "now".into() };
        let officer = Actor::Operator(operator("ada", &["officer"]));
        let decisions = w
            .store
            .apply(vec![
                w.tool_command(&shopper(), transfer("1", "k1")),
                w.command(officer, revoke),
                w.tool_command(&shopper(), transfer("1", "k2")),
            ])
            .unwrap();
        assert!(decisions[0].outcome.is_ok() && decisions[1].outcome.is_ok());
        assert_eq!(decisions[2].outcome, Err(Refusal::AgentRevoked));
    };
    a_revoked_certificate_voids_what_was_authorized_under_it: |w| {
        w.bank();
        let transaction = w.approved(transfer("100", "k1"));
        let shopper = shopper();
        let record = CertificateRecord {
            serial: shopper.bank_serial.clone(),
            key: shopper.key,
            ..certificate("crt_1", &shopper.spiffe_id.to_string(), 1)
        };
        w.system(Act::JournalCertificate { record }).outcome.unwrap();
        let target = RevocationTarget::Certificate { issuer: "bb".into(), serial: shopper.bank_serial.clone() };
        let revoked = w.admin(Act::Revoke { target, reason: "rotated".into() });
        assert_eq!(revoked, Ok(Effect::Revoked { certificates: 1, authorizations: 1, already: false }));
        assert_eq!(w.call(balance_of("CHK_001")), Err(Refusal::AgentRevoked));
        let renewed = AgentPrincipal { bank_serial: Serial::from_bytes(&[99]).unwrap(), ..shopper };
        assert!(w.call_as(&renewed, balance_of("CHK_001")).is_ok());
        let execute = execute_transfer(&transaction, "SAV_001", "100");
        assert_eq!(w.call_as(&renewed, execute), Err(Refusal::AgentRevoked));
        assert_eq!(w.store.revoked_of("bb").unwrap().len(), 1);
    };
    a_key_revocation_names_every_certificate_of_the_key: |w| {
        for (id, serial) in [("crt_1", 1), ("crt_2", 2)] {
            w.system(Act::JournalCertificate { record: certificate(id, "someone", serial) }).outcome.unwrap();
        }
        let key = Sha256::of(&[b"someone"]);
        let revoked = w.admin(Act::Revoke { target: RevocationTarget::Key(key), reason: "leak".into() });
        assert_eq!(revoked, Ok(Effect::Revoked { certificates: 2, authorizations: 0, already: false }));
        assert!(w.store.status().unwrap().keys.contains(&key));
        let another = w.system(Act::JournalCertificate { record: certificate("crt_3", "someone", 3) });
        assert_eq!(another.outcome, Err(Refusal::AgentRevoked));
    };
    what_is_unknown_cannot_be_revoked: |w| {
        for target in [
            RevocationTarget::Agent(shopper().spiffe_id),
            RevocationTarget::Certificate { issuer: "bb".into(), serial: Serial::from_bytes(&[1]).unwrap() },
        ] {
            assert_eq!(w.admin(Act::Revoke { target, reason: "x".into() }), Err(Refusal::UnknownAgent));
        }
    };
    a_key_that_nobody_knows_is_blocked_for_whoever_comes: |w| {
        let key = Sha256::of(&[b"someone"]);
        let revoke = || w.admin(Act::Revoke { target: RevocationTarget::Key(key), reason: "found".into() });
        assert_eq!(revoke(), Ok(Effect::Revoked { certificates: 0, authorizations: 0, already: false }));
        assert_eq!(revoke(), Ok(Effect::Revoked { certificates: 0, authorizations: 0, already: true }));
        let record = CertificateRecord { key, ..certificate("crt_1", "another name", 1) };
        assert_eq!(w.system(Act::JournalCertificate { record }).outcome, Err(Refusal::AgentRevoked));
        assert!(w.store.status().unwrap().keys.contains(&key));
    };
    a_revoked_issuer_takes_everything_under_it_along: |w| {
        w.bank();
        let open = w.approved(transfer("100", "k1"));
        let ca = CertificateRecord { issuer: "root".into(), profile: "issuing".into(), ..certificate("crt_1", "issuing CA v1", 1) };
        w.system(Act::JournalCertificate { record: ca.clone() }).outcome.unwrap();
        let certificates = vec![("root".to_owned(), ca.serial.clone())];
        let target = RevocationTarget::Issuer { issuer: "bb".into(), certificates };
        let revoke = || w.admin(Act::Revoke { target: target.clone(), reason: "ca-compromise".into() });
        assert_eq!(revoke(), Ok(Effect::Revoked { certificates: 1, authorizations: 1, already: false }));
        assert_eq!(revoke(), Ok(Effect::Revoked { certificates: 0, authorizations: 0, already: true }));
        assert_eq!(w.call(ToolCall::ListAccounts {}), Err(Refusal::AgentRevoked));
        let elsewhere = AgentPrincipal { bank_issuer: "b2".into(), ..shopper() };
        assert!(w.call_as(&elsewhere, ToolCall::ListAccounts {}).is_ok());
        assert_eq!(w.call_as(&elsewhere, execute_transfer(&open, "SAV_001", "100")), Err(Refusal::AgentRevoked));
        let under = CertificateRecord { issuer: "bb".into(), ..certificate("crt_2", "someone", 2) };
        assert_eq!(w.system(Act::JournalCertificate { record: under }).outcome, Err(Refusal::AgentRevoked));
        assert_eq!(w.store.revoked_of("root").unwrap().len(), 1);
        // The other party's, of which we have no certificates.
        let target = RevocationTarget::Issuer { issuer: "cc".into(), certificates: vec![] };
        w.admin(Act::Revoke { target, reason: "x".into() }).unwrap();
        assert_eq!(w.call_as(&elsewhere, ToolCall::ListAccounts {}), Err(Refusal::AgentRevoked));
        assert_eq!(w.store.status().unwrap().issuers.len(), 2);
    };
    many_serial_numbers_are_revoked_in_one_commit_or_not_at_all: |w| {
        let serials: Vec<Serial> = (1..=600_u16).map(|n| Serial::from_bytes(&[&[1][..], &n.to_be_bytes()].concat()).unwrap()).collect();
        let journal = |(index, serial): (usize, &Serial)| {
            let record = CertificateRecord { serial: serial.clone(), issuer: "bb".into(), ..certificate(&format!("crt_{index}"), "x", 1) };
            w.command(Actor::System { component: "test".into() }, Act::JournalCertificate { record })
        };
        w.store.apply(serials.iter().enumerate().map(journal).collect()).unwrap();
        let revoke = |serials: Vec<Serial>| {
            let target = RevocationTarget::Certificates { issuer: "bb".into(), serials };
            w.admin(Act::Revoke { target, reason: "superseded".into() })
        };
        let with_a_stranger = [serials[..3].to_vec(), vec![Serial::from_bytes(&[9]).unwrap()]].concat();
        assert_eq!(revoke(with_a_stranger), Err(Refusal::UnknownAgent));
        assert!(w.store.revoked_of("bb").unwrap().is_empty());
        assert_eq!(revoke(serials[..10].to_vec()), Ok(Effect::Revoked { certificates: 10, authorizations: 0, already: false }));
        let twice = [serials.clone(), serials.clone()].concat();
        assert_eq!(revoke(twice), Ok(Effect::Revoked { certificates: 590, authorizations: 0, already: false }));
        assert_eq!(revoke(serials), Ok(Effect::Revoked { certificates: 0, authorizations: 0, already: true }));
        let since = w.store.revoked_since("bb", UnixMillis(START)).unwrap();
        assert_eq!((since.total, since.entries.len()), (600, 600));
        assert_eq!(w.store.revoked_since("bb", UnixMillis(START + 1)).unwrap().entries, vec![]);
        let one = w.store.certificate_status("bb", &since.entries[0].serial).unwrap().unwrap();
        assert_eq!(one.revoked.as_ref(), Some(&since.entries[0]));
        assert_eq!(w.store.certificate_status("bb", &Serial::from_bytes(&[9]).unwrap()).unwrap(), None);
    };
    everyone_is_revoked_by_one_row_until_each_has_its_own: |w| {
        w.bank();
        let open = w.approved(transfer("100", "k1"));
        let named = |name: &str| agent("purchaser", name).spiffe_id.to_string();
        for (number, name) in [(1, "one"), (2, "two"), (3, "three")] {
            let record = CertificateRecord { issuer: "bb".into(), ..certificate(&format!("crt_{number}"), &named(name), number) };
            w.system(Act::JournalCertificate { record }).outcome.unwrap();
        }
        let late = || w.system(Act::JournalCertificate { record: certificate("crt_9", &named("late"), 9) }).outcome;
        let revoke = || w.admin(Act::Revoke { target: RevocationTarget::Everyone, reason: "key-compromise".into() });
        assert_eq!(revoke(), Ok(Effect::Revoked { certificates: 0, authorizations: 1, already: false }));
        assert_eq!(revoke(), Ok(Effect::Revoked { certificates: 0, authorizations: 0, already: true }));
        assert_eq!(w.call(ToolCall::ListAccounts {}), Err(Refusal::AgentRevoked));
        assert_eq!(late(), Err(Refusal::AgentRevoked));
        assert!(w.store.status().unwrap().everyone);
        assert!(w.store.revoked_of("bb").unwrap().is_empty());
        w.later(60_000);
        let spread = |after| w.system(Act::SpreadRevocation { after, limit: 2 }).outcome;
        let Ok(Effect::Spread { agents: 2, last: Some(last) }) = spread(None) else { panic!("not two of three") };
        assert!(w.store.status().unwrap().everyone);
        // Whatever the caller says where it was: the one row stays while somebody has none.
        assert_eq!(spread(Some(agent("purchaser", "zzz").spiffe_id)), Ok(Effect::Spread { agents: 0, last: None }));
        assert!(w.store.status().unwrap().everyone);
        assert!(matches!(spread(Some(last)), Ok(Effect::Spread { agents: 1, .. })));
        assert_eq!(spread(None), Ok(Effect::Spread { agents: 0, last: None }));
        let status = w.store.status().unwrap();
        assert!(!status.everyone && status.agents.len() == 3 && status.keys.len() == 3);
        let revoked = w.store.revoked_of("bb").unwrap();
        assert!(revoked.len() == 3 && revoked.iter().all(|entry| entry.at == UnixMillis(START) && entry.reason == "key-compromise"));
        assert!(late().is_ok());
        assert_eq!(w.call_as(&agent("purchaser", "one"), ToolCall::ListAccounts {}), Err(Refusal::AgentRevoked));
        assert_eq!(w.store.transaction(&open).unwrap().unwrap().state.name(), "approved");
    };
    a_freeze_refuses_and_voids_nothing_and_two_people_lift_it: |w| {
        w.bank();
        let open = w.approved(transfer("100", "k1"));
        let (approval, _) = w.waiting(transfer("2500", "k2"));
        let whom = || Whom::Agent(shopper().spiffe_id);
        let freeze = || w.admin(Act::Freeze { whom: whom(), reason: "odd".into() });
        let by = |name: &str| w.decision(Actor::Operator(operator(name, &["officer"])), Act::Unfreeze { whom: whom(), note: "n".into() }).outcome;
        assert_eq!(by("ada"), Err(Refusal::NotFrozen));
        assert_eq!(freeze(), Ok(Effect::Frozen { already: false }));
        assert_eq!(freeze(), Ok(Effect::Frozen { already: true }));
        for call in [execute_transfer(&open, "SAV_001", "100"), balance_of("CHK_001"), ToolCall::ListAccounts {}] {
            assert_eq!(w.call(call), Err(Refusal::AgentFrozen));
        }
        assert_eq!(w.answer_approval(&approval, Verdict::Approve), Err(Refusal::AgentFrozen));
        let renewed = certificate("crt_1", &shopper().spiffe_id.to_string(), 1);
        assert_eq!(w.system(Act::JournalCertificate { record: renewed }).outcome, Err(Refusal::AgentFrozen));
        assert_eq!(w.sweep(), 0);
        assert_eq!(w.store.freezes().unwrap().len(), 1);
        assert_eq!(by("ada"), Ok(Effect::Unfrozen { by: Thaw::OneOfTwo }));
        assert_eq!(by("ada"), Err(Refusal::MakerIsChecker));
        assert_eq!(w.call(ToolCall::ListAccounts {}), Err(Refusal::AgentFrozen));
        assert_eq!(w.store.freezes().unwrap()[0].thaw_asked_by.as_deref(), Some("ada"));
        assert_eq!(w.system(Act::Unfreeze { whom: whom(), note: "n".into() }).outcome, Err(Refusal::OperatorNotPermitted));
        assert_eq!(by("bob"), Ok(Effect::Unfrozen { by: Thaw::Both }));
        assert_eq!(by("carol"), Err(Refusal::NotFrozen));
        assert!(w.call(execute_transfer(&open, "SAV_001", "100")).is_ok());
        // An earlier word does not count for a new freeze.
        freeze().unwrap();
        assert_eq!(by("bob"), Ok(Effect::Unfrozen { by: Thaw::OneOfTwo }));
        assert!(w.store.status().unwrap().frozen.contains(&shopper().spiffe_id));
    };
    a_freeze_of_everyone_holds_for_those_who_come_later: |w| {
        w.bank();
        let whom = || Whom::Everyone;
        w.admin(Act::Freeze { whom: whom(), reason: "incident".into() }).unwrap();
        w.admin(Act::Freeze { whom: Whom::Agent(shopper().spiffe_id), reason: "odd".into() }).unwrap();
        let late = agent("purchaser", "late");
        for caller in [&late, &shopper()] {
            assert_eq!(w.call_as(caller, ToolCall::ListAccounts {}), Err(Refusal::AgentFrozen));
        }
        for name in ["ada", "bob"] {
            let act = Act::Unfreeze { whom: whom(), note: "n".into() };
            w.decision(Actor::Operator(operator(name, &["officer"])), act).outcome.unwrap();
        }
        assert!(w.call_as(&late, ToolCall::ListAccounts {}).is_ok());
        assert_eq!(w.call(ToolCall::ListAccounts {}), Err(Refusal::AgentFrozen));
    };
    a_freeze_and_its_end_in_one_commit_leave_nothing_behind: |w| {
        w.bank();
        let officer = |name: &str| Actor::Operator(operator(name, &["officer"]));
        let whom = || Whom::Agent(shopper().spiffe_id);
        let freeze = || Act::Freeze { whom: whom(), reason: "odd".into() };
        let thaw = || Act::Unfreeze { whom: whom(), note: "n".into() };
        let acts = [("ada", freeze()), ("ada", thaw()), ("bob", thaw()), ("ada", freeze()), ("bob", thaw()), ("eve", thaw())];
        let commands = acts.into_iter().map(|(name, act)| w.command(officer(name), act)).collect();
        assert!(w.store.apply(commands).unwrap().iter().all(|decision| decision.outcome.is_ok()));
        assert!(w.store.freezes().unwrap().is_empty());
        assert!(w.call(ToolCall::ListAccounts {}).is_ok());
    };
    an_expired_pair_is_refused: |w| {
        w.bank();
        w.later(31 * DAY_MS);
        assert_eq!(w.call(ToolCall::ListAccounts {}), Err(Refusal::InvalidCertificate));
    };
    a_crl_that_comes_behind_a_sweep_in_one_commit_is_swept_by_the_next: |w| {
        w.bank();
        let open = w.approved(transfer("100", "k1"));
        let crl = Act::ImportCrl {
            issuer: "cc".into(),
            number: 2,
            this_update: UnixMillis(START),
            next_update: UnixMillis(START + DAY_MS),
            serials: vec![shopper().company_serial],
        };
        let system = || Actor::System { component: "test".into() };
        let both = vec![w.command(system(), Act::Sweep { limit: 100 }), w.command(system(), crl)];
        assert!(w.store.apply(both).unwrap().iter().all(|decision| decision.outcome.is_ok()));
        assert_eq!(w.sweep(), 1);
        assert_eq!(w.store.transaction(&open).unwrap().unwrap().state.name(), "voided");
    };
    an_imported_crl_revokes_and_never_goes_back: |w| {
        w.bank();
        let crl = |number, serials: Vec<Serial>| Act::ImportCrl {
            issuer: "cc".into(),
            number,
            this_update: UnixMillis(START),
            next_update: UnixMillis(START + DAY_MS),
            serials,
        };
        assert_eq!(w.system(crl(2, vec![shopper().company_serial])).outcome, Ok(Effect::Done { changed: true }));
        assert_eq!(w.call(ToolCall::ListAccounts {}), Err(Refusal::AgentRevoked));
        assert_eq!(w.system(crl(2, vec![shopper().company_serial])).outcome, Ok(Effect::Done { changed: false }));
        assert_eq!(w.system(crl(1, vec![])).outcome, Err(Refusal::StaleCrl));
        assert_eq!(w.system(crl(3, vec![])).outcome, Ok(Effect::Done { changed: true }));
        assert_eq!(w.call(ToolCall::ListAccounts {}), Err(Refusal::AgentRevoked));
        let status = w.store.status().unwrap();
        assert_eq!(status.crls["cc"].number, 3);
        assert!(status.certificates.contains(&("cc".into(), shopper().company_serial)));
        assert!(w.store.revoked_of("cc").unwrap().is_empty());
    };
    a_missing_or_stale_crl_stops_agents_when_the_rules_need_one: |w| {
        w.bank();
        let strict = || {
            let mut command = w.tool_command(&shopper(), ToolCall::ListAccounts {});
            let Act::Tool { rules: under, .. } = &mut command.act else { panic!() };
            *under = Arc::new(Rules { company_crl_required: true, ..rules() });
            w.store.apply(vec![command]).unwrap().pop().unwrap().outcome
        };
        assert_eq!(strict(), Err(Refusal::EndorsementStatusStale));
        w.system(Act::ImportCrl {
            issuer: "cc".into(),
            number: 1,
            this_update: UnixMillis(START),
            next_update: UnixMillis(START + DAY_MS),
            serials: vec![],
        })
        .outcome
        .unwrap();
        assert!(strict().is_ok());
        w.later(DAY_MS + 1);
        assert_eq!(strict(), Err(Refusal::EndorsementStatusStale));
    };
    a_serial_number_is_never_used_twice: |w| {
        let first = certificate("crt_1", "a", 1);
        let journal = |record| w.system(Act::JournalCertificate { record }).outcome;
        assert_eq!(journal(first.clone()), Ok(Effect::Certificate(first.clone())));
        assert_eq!(journal(first.clone()), Ok(Effect::Certificate(first)));
        assert_eq!(journal(certificate("crt_2", "b", 1)), Err(Refusal::SerialTaken));
        assert_eq!(journal(certificate("crt_1", "b", 2)), Err(Refusal::AlreadyExists));
        // Numbers are an issuer's own: after a roll-over the one before has its, the next has its.
        let of_another = CertificateRecord { issuer: "cc".into(), ..certificate("crt_3", "b", 1) };
        assert_eq!(journal(of_another.clone()), Ok(Effect::Certificate(of_another)));
        assert_eq!(w.store.certificates().unwrap().len(), 2);
    };
    an_agents_name_belongs_to_one_key: |w| {
        let name = shopper().spiffe_id.to_string();
        let over = |id: &str, serial: u8, key: &[u8]| CertificateRecord {
            key: Sha256::of(&[key]),
            not_after: UnixMillis(START + 10 * DAY_MS),
            ..certificate(id, &name, serial)
        };
        let journal = |record| w.system(Act::JournalCertificate { record }).outcome;
        journal(over("crt_1", 1, b"one")).unwrap();
        journal(over("crt_2", 2, b"one")).unwrap();
        assert_eq!(journal(over("crt_3", 3, b"two")), Err(Refusal::AlreadyExists));
        // The other half of the pair has the name as well, and so has a service whose key is rotated.
        journal(CertificateRecord { profile: "agent-s".into(), ..over("crt_4", 4, b"two") }).unwrap();
        for (id, serial, key) in [("crt_5", 5, b"one"), ("crt_6", 6, b"two")] {
            journal(CertificateRecord { key: Sha256::of(&[key]), ..certificate(id, "transaction", serial) }).unwrap();
        }
        // The name is free once nothing of the other key stands.
        let serials = [1, 2].map(|serial| Serial::from_bytes(&[serial]).unwrap()).to_vec();
        let first = RevocationTarget::Certificate { issuer: "bb".into(), serial: serials[0].clone() };
        w.admin(Act::Revoke { target: first, reason: "x".into() }).unwrap();
        assert_eq!(journal(over("crt_3", 3, b"two")), Err(Refusal::AlreadyExists));
        let second = RevocationTarget::Certificate { issuer: "bb".into(), serial: serials[1].clone() };
        w.admin(Act::Revoke { target: second, reason: "x".into() }).unwrap();
        journal(over("crt_3", 3, b"two")).unwrap();
    };
    certificates_are_found_by_what_is_asked_as_they_were_journalled: |w| {
        let named = |role: &str, name: &str| agent(role, name).spiffe_id.to_string();
        let (one, two) = (named("purchaser", "one"), named("purchaser", "two"));
        let shared = Sha256::of(&[b"a key"]);
        // Ids and serial numbers go down: neither orders them.
        let all = [
            CertificateRecord { profile: "root".into(), issuer: "rr".into(), ..certificate("crt_8", "root CA v1", 8) },
            CertificateRecord { key: shared, ..certificate("crt_7", &one, 7) },
            CertificateRecord { key: shared, not_after: UnixMillis(START + 5), ..certificate("crt_6", &one, 6) },
            CertificateRecord { profile: "agent-s".into(), ..certificate("crt_5", &named("viewer", "one"), 5) },
            CertificateRecord { issuer: "cc".into(), key: shared, ..certificate("crt_4", &two, 4) },
            certificate("crt_3", "checkpoint v1", 3),
        ];
        for record in &all {
            w.system(Act::JournalCertificate { record: record.clone() }).outcome.unwrap();
        }
        let always = UnixMillis(i64::MIN);
        let ids = |of: CertificatesOf, live_at| {
            let found = w.store.certificates_of(&of, live_at).unwrap();
            let lines = w.store.certificate_lines(&of, live_at, None, 100).unwrap();
            assert_eq!(lines.len(), found.len(), "{of:?}");
            found.into_iter().map(|record| record.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(CertificatesOf::Key(shared), always), ["crt_7", "crt_6", "crt_4"]);
        assert_eq!(ids(CertificatesOf::Key(shared), UnixMillis(START)), ["crt_6"], "live is later than");
        assert_eq!(ids(CertificatesOf::Subject(one.clone()), always), ["crt_7", "crt_6"]);
        assert_eq!(ids(CertificatesOf::Subject("checkpoint v1".into()), always), ["crt_3"]);
        assert_eq!(ids(CertificatesOf::Agent(one.parse().unwrap()), always), ["crt_7", "crt_6"]);
        assert_eq!(ids(CertificatesOf::AgentNamed("one".parse().unwrap()), always), ["crt_7", "crt_6", "crt_5"]);
        assert_eq!(ids(CertificatesOf::AgentNamed("none".parse().unwrap()), always), [""; 0]);
        assert_eq!(ids(CertificatesOf::Issuer("cc".into()), always), ["crt_4"]);
        let serial = |bytes: &[u8]| CertificatesOf::Serial { issuer: "bb".into(), serial: Serial::from_bytes(bytes).unwrap() };
        assert_eq!(ids(serial(&[5]), always), ["crt_5"]);
        assert_eq!(ids(serial(&[4]), always), [""; 0], "another issuer's number");
        assert_eq!(ids(CertificatesOf::Agents, always).len(), 4);
        assert_eq!(w.store.certificates_of(&CertificatesOf::Subject(two), always).unwrap(), [all[4].clone()]);
        assert_eq!(w.store.authorities().unwrap(), [all[0].clone()]);
        let subjects: Vec<String> = w.store.certificate_list().unwrap().into_iter().map(|line| line.subject).collect();
        assert_eq!(subjects, all.map(|record| record.subject));
    };
    the_last_end_of_an_issuer_is_that_of_what_it_has_released: |w| {
        let ends = |id: &str, serial, issuer: &str, profile: &str, end| {
            let (issuer, profile, not_after) = (issuer.to_owned(), profile.to_owned(), UnixMillis(START + end));
            let record = CertificateRecord { issuer, profile, not_after, ..certificate(id, id, serial) };
            w.system(Act::JournalCertificate { record }).outcome.unwrap();
        };
        let release = |id: &str| w.system(Act::ReleaseCertificate { id: id.into(), der: b"der".to_vec() }).outcome.unwrap();
        let last = |issuer: &str| w.store.last_end(issuer).unwrap().map(|end| end.0 - START);
        assert_eq!(last("bb"), None);
        ends("crt_1", 1, "bb", "agent-b", 5);
        ends("crt_2", 2, "bb", "tls-server", 9);
        ends("crt_3", 3, "bb", "issuing", 100);
        ends("crt_4", 4, "cc", "agent-s", 50);
        assert_eq!(last("bb"), None, "nothing is signed yet");
        release("crt_3");
        assert_eq!(last("bb"), None, "a CA is none of what an issuing CA has to answer for");
        release("crt_1");
        assert_eq!((last("bb"), last("cc")), (Some(5), None));
        assert!(w.store.certificate_list().unwrap().iter().all(|line| line.released == matches!(line.serial.as_bytes(), [1 | 3])));
        release("crt_2");
        release("crt_4");
        assert_eq!((last("bb"), last("cc")), (Some(9), Some(50)));
    };
    the_first_signature_of_a_certificate_stands: |w| {
        w.system(Act::JournalCertificate { record: certificate("crt_1", "a", 1) }).outcome.unwrap();
        let release = |der: &[u8]| w.system(Act::ReleaseCertificate { id: "crt_1".into(), der: der.to_vec() }).outcome;
        let Effect::Certificate(first) = release(b"first").unwrap() else { panic!() };
        assert_eq!(first.der.as_deref(), Some(b"first".as_slice()));
        assert_eq!(release(b"second"), Ok(Effect::Certificate(first)));
        let unknown = w.system(Act::ReleaseCertificate { id: "crt_9".into(), der: vec![] });
        assert_eq!(unknown.outcome, Err(Refusal::UnknownAgent));
    };
    crl_numbers_are_never_used_twice: |w| {
        for (issuer, number) in [("aa", 1), ("aa", 2), ("bb", 1), ("aa", 3)] {
            let next = w.system(Act::NextCrlNumber { issuer: issuer.into() });
            assert_eq!(next.outcome, Ok(Effect::CrlNumber(number)));
        }
    };
    agents_touch_no_certificates: |w| {
        let actor = || Actor::Agent(shopper());
        for act in [
            Act::JournalCertificate { record: certificate("crt_1", "a", 1) },
            Act::NextCrlNumber { issuer: "aa".into() },
            Act::Revoke { target: RevocationTarget::Agent(shopper().spiffe_id), reason: "x".into() },
            Act::SignBatch { batch: 1, signature: vec![], key: Sha256([1; 32]) },
        ] {
            assert_eq!(w.decision(actor(), act).outcome, Err(Refusal::OperatorNotPermitted));
        }
    };
}
