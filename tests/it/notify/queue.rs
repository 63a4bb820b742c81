//! From a decision to a message: once, whatever stops in between, and few where there are many.

use std::collections::BTreeSet;

use countersign::kernel::notice::gather::{Content, Digest, Titled};
use countersign::kernel::notice::{Notice, NoticeKind};
use countersign::kernel::types::UnixMillis;
use countersign::notify::NotifyCall;
use countersign::store::{Message, NoticeAnswer, NoticeQuery, NoticeState, NoticeStep, NoticeWork};

use super::receivers::{Mood, Web};
use super::{Stage, asks, discreet, is_refused, route, sequenced, verified, webhook};
use crate::store::world::World;

#[test]
fn what_a_human_must_decide_is_told_signed_and_without_an_account() {
    let mut stage = Stage::new();
    let web = Web::start(&[Mood::Status(200)]);
    let world = stage.bank();
    drop(world);
    stage.start(
        &(webhook("ops", web.port, "") + &route("\"ops\"", "kinds = [\"payment_waits\", \"approval_decided\"]")),
    );
    stage.begun();
    let world = World::new(&*stage.store);
    world.now.set(countersign::ops::clock::now().0);
    world.ids.set(1_000);
    let approval = asks(&world, "k1");
    // Of another kind: nobody asked for it.
    is_refused(&world, "k2");
    stage.sequenced();
    let got = web.next();
    verified(&got);
    assert_eq!(got.line, "POST /in?token=hidden HTTP/1.1");
    let said = got.json();
    assert_eq!(said["type"], "payment_waits");
    assert_eq!(said["data"]["subjects"]["approval_id"], approval.to_string());
    assert_eq!(said["data"]["party"], "bank");
    let lines = said["data"]["lines"].as_array().unwrap();
    assert!(lines.iter().any(|line| line == "from: ••••3000"), "{said}");
    assert!(lines.iter().any(|line| line == "amount: 2500.00 USD"), "{said}");
    discreet(&got.all());
    world.answer_approval(&approval, countersign::kernel::command::Verdict::Deny).unwrap();
    stage.sequenced();
    let decided = web.next();
    assert_eq!(decided.json()["type"], "approval_decided");
    assert_ne!(decided.id(), got.id());
    stage.until(decided.id().strip_prefix("ntc_").unwrap(), "sent");
    let id = got.id().strip_prefix("ntc_").unwrap().to_owned();
    let shown = stage.until(&id, "sent");
    assert_eq!(shown["attempts"], 1);
    discreet(&shown.to_string());
    let listed = stage.ask(NotifyCall::List { state: Some(NoticeState::Sent), after: None, limit: 1 }).unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    let page = NotifyCall::List { state: None, after: Some(listed["next"].as_str().unwrap().into()), limit: 10 };
    assert_eq!(stage.ask(page).unwrap()["items"][0]["id"], id);
    assert_eq!(web.rest().len(), 0);
}

#[test]
fn nothing_is_lost_and_nothing_gets_another_id_when_the_daemon_stops_in_between() {
    let mut stage = Stage::new();
    let web = Web::start(&[Mood::Close]);
    drop(stage.bank());
    let text = "pause_s = 1\n".to_owned() + &webhook("ops", web.port, "") + &route("\"ops\"", "digest_after = 100");
    stage.start(&text);
    stage.begun();
    let round = |stage: &Stage, number: u64| {
        let world = World::new(&*stage.store);
        world.now.set(countersign::ops::clock::now().0);
        world.ids.set(number * 1_000);
        for key in 0..2 {
            asks(&world, &format!("k{number}-{key}"));
        }
        stage.sequenced();
    };
    round(&stage, 1);
    // Told, and nobody knows whether it was heard: the daemon stops.
    let mut tried: BTreeSet<String> = [web.next().id().to_owned()].into();
    stage.stop();
    round(&stage, 2);
    tried.extend(web.rest().iter().map(|got| got.id().to_owned()));
    web.becomes(Mood::Status(204));
    stage.start(&text);
    let mut told = BTreeSet::new();
    while told.len() < 4 {
        let got = web.next();
        verified(&got);
        told.insert(got.id().to_owned());
    }
    assert!(tried.is_subset(&told), "{tried:?} {told:?}");
    for id in &told {
        stage.until(id.strip_prefix("ntc_").unwrap(), "sent");
    }
    let all = stage.store.notices(&NoticeQuery { limit: 100, ..NoticeQuery::default() }).unwrap();
    assert_eq!(all.len(), 4);
    assert!(web.rest().iter().all(|got| told.contains(got.id())));
}

#[test]
fn ten_thousand_refusals_are_a_handful_of_messages_that_count_them_all() {
    let mut stage = Stage::new();
    let web = Web::start(&[Mood::Status(200)]);
    drop(stage.bank());
    let pace = "kinds = [\"request_refused\"]\ndigest_after = 2\nmin_interval_s = 3600";
    let quick = "kinds = [\"payment_waits\"]\ndigest_after = 2";
    stage.start(&(webhook("ops", web.port, "") + &route("\"ops\"", pace) + &route("\"ops\"", quick)));
    stage.begun();
    let world = World::new(&*stage.store);
    world.now.set(countersign::ops::clock::now().0);
    world.ids.set(100_000);
    for part in 0..4 {
        let commands: Vec<_> = (0..2_500)
            .map(|number| {
                let call = crate::store::world::transfer("999999", &format!("r{part}-{number}"));
                world.tool_command(&crate::store::world::shopper(), call)
            })
            .collect();
        stage.store.apply(commands).unwrap();
    }
    // A storm of one kind keeps no other kind back.
    asks(&world, "k");
    stage.sequenced();
    let kinds: Vec<String> = (0..3).map(|_| web.next().json()["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "request_refused").count(), 2, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| *kind == "payment_waits").count(), 1, "{kinds:?}");
    stage.looked();
    let all = stage.store.notices(&NoticeQuery { limit: 100, ..NoticeQuery::default() }).unwrap();
    let refusals: Vec<_> = all.iter().filter(|one| one.kind.name() == "request_refused").collect();
    assert_eq!(refusals.len(), 3, "two alone and one digest");
    assert_eq!(refusals.iter().map(|one| one.content.count()).sum::<u64>(), 10_000);
    let digest = refusals.iter().find(|one| one.content.count() > 1).unwrap();
    let shown = stage.ask(NotifyCall::Show { id: digest.id.clone() }).unwrap();
    assert_eq!((&shown["state"], &shown["count"]), (&"queued".into(), &9_998.into()), "{shown}");
}

#[test]
fn while_the_log_stands_still_people_are_told_all_the_same_and_once() {
    let mut stage = Stage::new();
    let web = Web::start(&[Mood::Status(200)]);
    drop(stage.bank());
    stage.start(&(webhook("ops", web.port, "") + &route("\"ops\"", "")));
    stage.begun();
    let world = World::new(&*stage.store);
    world.now.set(countersign::ops::clock::now().0);
    world.ids.set(1_000);
    // No sequencer: as while its HSM is away.
    let first = asks(&world, "k1");
    assert_eq!(web.next().json()["data"]["subjects"]["approval_id"], first.to_string());
    assert_eq!(stage.store.notice_place().unwrap().early.len(), 1);
    stage.sequenced();
    let second = asks(&world, "k2");
    stage.sequenced();
    assert_eq!(web.next().json()["data"]["subjects"]["approval_id"], second.to_string());
    assert_eq!(stage.store.notice_place().unwrap().early.len(), 0);
    assert_eq!(stage.store.notices(&NoticeQuery { limit: 9, ..NoticeQuery::default() }).unwrap().len(), 2);
    assert_eq!(web.rest().len(), 0);
}

#[test]
fn behind_thousands_of_leaves_that_wait_the_next_one_is_told_while_the_log_stands_still() {
    let mut stage = Stage::new();
    let web = Web::start(&[Mood::Status(200)]);
    drop(stage.bank());
    stage.start(&(webhook("ops", web.port, "") + &route("\"ops\"", "kinds = [\"payment_waits\"]")));
    stage.begun();
    let world = World::new(&*stage.store);
    world.now.set(countersign::ops::clock::now().0);
    world.ids.set(10_000);
    refusals(&stage, &world, "a", 2_500);
    let first = asks(&world, "k1");
    assert_eq!(web.next().json()["data"]["subjects"]["approval_id"], first.to_string());
    // What was looked at is not looked at again, and what comes behind it is.
    refusals(&stage, &world, "b", 1_500);
    let second = asks(&world, "k2");
    assert_eq!(web.next().json()["data"]["subjects"]["approval_id"], second.to_string());
    stage.sequenced();
    stage.looked();
    assert_eq!(web.rest().len(), 0);
}

/// So many leaves that few are told of, in one commit each thousand.
fn refusals(stage: &Stage, world: &World<'_>, name: &str, count: usize) {
    for part in 0..count.div_ceil(1_000) {
        let commands = (part * 1_000..count.min((part + 1) * 1_000)).map(|number| {
            let call = crate::store::world::transfer("999999", &format!("{name}-{number}"));
            world.tool_command(&crate::store::world::shopper(), call)
        });
        stage.store.apply(commands.collect()).unwrap();
    }
}

/// The messages of one channel, oldest first.
fn of_channel(stage: &Stage, channel: &str) -> Vec<Message> {
    let (mut after, mut found) = (None, vec![]);
    loop {
        let page = stage.store.notices(&NoticeQuery { after, limit: 1_000, ..NoticeQuery::default() }).unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.leaf, last.id.clone()));
        found.extend(page.into_iter().filter(|message| message.channel == channel));
    }
    found.reverse();
    found
}

#[test]
fn what_a_fast_route_gets_does_not_break_the_pace_of_a_slow_one() {
    let mut stage = Stage::new();
    let web = Web::start(&[Mood::Status(200)]);
    drop(stage.bank());
    let slow = route("\"slow\"", "digest_after = 1\nmin_interval_s = 3600");
    let fast = route("\"fast\"", "digest_after = 1000\nmin_interval_s = 1");
    let other = route("\"other\"", "digest_after = 1000\nmin_interval_s = 1");
    let hooks = ["slow", "fast", "other"].map(|name| webhook(name, web.port, "")).concat();
    stage.start(&(hooks + &slow + &fast + &other));
    stage.begun();
    let world = World::new(&*stage.store);
    world.now.set(countersign::ops::clock::now().0);
    world.ids.set(10_000);
    for (name, count) in [("a", 1), ("b", 700), ("c", 1)] {
        refusals(&stage, &world, name, count);
        stage.sequenced();
        stage.looked();
    }
    let slow = of_channel(&stage, "slow");
    assert_eq!(slow.iter().map(|message| message.content.count()).collect::<Vec<_>>(), [1, 701]);
}

#[test]
fn a_clock_that_was_ahead_for_a_moment_mutes_nothing() {
    let mut stage = Stage::new();
    let web = Web::start(&[Mood::Status(200)]);
    drop(stage.bank());
    let digest = |leaf: i64, at: UnixMillis| {
        let first = Notice {
            kind: NoticeKind::RequestRefused,
            title: "A request was refused: of tomorrow".into(),
            lines: vec![],
            subjects: [].into(),
            at: at.rfc3339(),
        };
        let titles = vec![Titled { title: first.title.clone(), count: 3, at: first.at.clone() }];
        let content = Content::Several(Digest { last_at: first.at.clone(), first, count: 3, titles });
        Message::new(leaf, "ops", content, at, at.plus_ms(60_000))
    };
    // Queued while the clock was a month ahead: an open digest, and what seemed to be sent lately.
    let ahead = countersign::ops::clock::now().plus_ms(30 * 86_400_000);
    let new = vec![digest(1, ahead), digest(2, ahead), digest(3, ahead)];
    let to = stage.store.newest_checkpoint().unwrap().unwrap().size;
    let step = NoticeStep { from: None, to, new, ..NoticeStep::default() };
    assert_eq!(stage.store.work_notices(NoticeWork::Step(Box::new(step))).unwrap(), NoticeAnswer::Done);
    let pace = "digest_after = 1\nmin_interval_s = 3600";
    stage.start(&(webhook("ops", web.port, "") + &route("\"ops\"", pace)));
    let world = World::new(&*stage.store);
    world.now.set(countersign::ops::clock::now().0);
    world.ids.set(1_000);
    is_refused(&world, "k");
    stage.sequenced();
    let told: Vec<u64> = (0..4).map(|_| web.next().json()["data"]["count"].as_u64().unwrap()).collect();
    assert_eq!(told.iter().filter(|count| **count == 1).count(), 1, "{told:?}");
    assert_eq!(told.iter().filter(|count| **count == 3).count(), 3, "{told:?}");
}

#[test]
fn of_two_daemons_over_one_database_one_tells() {
    let database = crate::support::postgres::shared().database();
    let web = Web::start(&[Mood::Status(200)]);
    let mut stages = [0, 1].map(|_| Stage::on(tempfile::tempdir().unwrap(), database.open()));
    drop(stages[0].bank());
    let text = webhook("ops", web.port, "") + &route("\"ops\"", "digest_after = 1000");
    for stage in &mut stages {
        stage.start(&text);
        stage.begun();
    }
    let world = World::new(&*stages[0].store);
    world.now.set(countersign::ops::clock::now().0);
    world.ids.set(1_000);
    for number in 0..40 {
        is_refused(&world, &format!("k{number}"));
        sequenced(&*stages[number % 2].store);
    }
    let ids: Vec<String> = (0..40).map(|_| web.next().id().to_owned()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 40, "{ids:?}");
    for id in &ids {
        stages[1].until(id.strip_prefix("ntc_").unwrap(), "sent");
    }
    let mut stages = stages.into_iter();
    drop(stages.next());
    drop(stages.next());
    assert_eq!(web.rest().len(), 0, "told twice");
}
