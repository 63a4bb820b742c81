//! The queue of messages to people: nothing is lost, nothing is queued twice, each is claimed by one at a time.

use super::world::*;
use countersign::kernel::notice::gather::Content;
use countersign::kernel::notice::{Notice, NoticeKind};
use countersign::kernel::types::UnixMillis;
use countersign::store::{
    Attempt, Message, NoticeAnswer, NoticeCounts, NoticeQuery, NoticeState, NoticeStep, NoticeWork, Store,
};

const MINUTE: i64 = 60_000;
const MONTH: i64 = 30 * DAY_MS;

fn at(ms: i64) -> UnixMillis {
    UnixMillis(START + ms)
}

fn content(title: &str) -> Content {
    Content::One(Notice {
        kind: NoticeKind::PaymentWaits,
        title: title.into(),
        lines: vec!["••••6789".into()],
        subjects: [("approval_id".to_owned(), "apr_x".to_owned())].into(),
        at: at(0).rfc3339(),
    })
}

fn message(leaf: i64, channel: &str, due: i64) -> Message {
    Message::new(leaf, channel, content("first"), at(0), at(due))
}

fn step(from: Option<u64>, to: u64, new: Vec<Message>) -> NoticeWork {
    NoticeWork::Step(Box::new(NoticeStep { from, to, new, ..NoticeStep::default() }))
}

fn work(store: &dyn Store, work: NoticeWork) -> NoticeAnswer {
    store.work_notices(work).unwrap()
}

/// Ids and numbers of the attempts.
fn claimed(store: &dyn Store, channels: &[&str], now: i64, limit: u32) -> Vec<(String, u32)> {
    let channels = channels.iter().map(|name| (*name).to_owned()).collect();
    let (now, until, latest) = (at(now), at(now + MINUTE), at(now + MONTH));
    let claim = NoticeWork::Claim { channels, now, latest, until, limit };
    let NoticeAnswer::Claimed(messages) = work(store, claim) else { panic!("not claimed") };
    messages.into_iter().map(|message| (message.id, message.attempts)).collect()
}

fn settled(store: &dyn Store, id: &str, attempt: u32, outcome: Attempt) -> NoticeAnswer {
    work(store, NoticeWork::Settle(vec![(id.to_owned(), attempt, outcome)]))
}

fn listed(store: &dyn Store, state: NoticeState) -> Vec<String> {
    let query = NoticeQuery { state: Some(state), limit: 100, ..NoticeQuery::default() };
    store.notices(&query).unwrap().into_iter().map(|message| message.id).collect()
}

sentences! {
    the_place_in_the_log_moves_with_what_is_queued_and_only_from_where_it_is: |w| {
        assert_eq!(w.store.notice_place().unwrap().next, None);
        assert_eq!(work(w.store, step(Some(0), 1, vec![message(1, "a", 0)])), NoticeAnswer::Stale);
        assert_eq!(work(w.store, step(None, 5, vec![])), NoticeAnswer::Done);
        assert_eq!(work(w.store, step(None, 9, vec![message(1, "a", 0)])), NoticeAnswer::Stale);
        assert_eq!(work(w.store, step(Some(4), 9, vec![message(1, "a", 0)])), NoticeAnswer::Stale);
        assert_eq!(w.store.notice_place().unwrap().next, Some(5));
        assert_eq!(w.store.notice_counts().unwrap(), NoticeCounts::default());
        assert_eq!(work(w.store, step(Some(5), 9, vec![message(7, "a", 0)])), NoticeAnswer::Done);
        // A second daemon that read the same place.
        assert_eq!(work(w.store, step(Some(5), 9, vec![message(7, "a", 0)])), NoticeAnswer::Stale);
        assert_eq!(w.store.notice_place().unwrap().next, Some(9));
        assert_eq!(listed(w.store, NoticeState::Queued), ["7-a"]);
        let kept = w.store.notice("7-a").unwrap().unwrap();
        assert_eq!(kept, message(7, "a", 0));
        assert_eq!(w.store.notice("7-b").unwrap(), None);
    };
    a_leaf_that_was_told_of_early_is_known_until_it_has_its_place: |w| {
        let early = |rows: &[i64], new| NoticeStep { from: None, to: 3, early: rows.to_vec(), new, ..NoticeStep::default() };
        let told = NoticeWork::Step(Box::new(early(&[40], vec![message(40, "a", 0)])));
        assert_eq!(work(w.store, told), NoticeAnswer::Done);
        let again = NoticeStep { from: Some(3), ..early(&[40], vec![message(40, "b", 0)]) };
        assert_eq!(work(w.store, NoticeWork::Step(Box::new(again))), NoticeAnswer::Stale);
        assert_eq!(w.store.notice_place().unwrap().early, [40]);
        let placed = NoticeStep { from: Some(3), to: 4, placed: vec![40], ..NoticeStep::default() };
        assert_eq!(work(w.store, NoticeWork::Step(Box::new(placed))), NoticeAnswer::Done);
        assert_eq!(w.store.notice_place().unwrap().early, Vec::<i64>::new());
        assert_eq!(listed(w.store, NoticeState::Queued), ["40-a"]);
    };
    what_was_told_of_early_is_told_by_no_step_that_does_not_know_it: |w| {
        let early = NoticeStep { to: 3, early: vec![40], new: vec![message(40, "a", 0)], ..NoticeStep::default() };
        assert_eq!(work(w.store, NoticeWork::Step(Box::new(early))), NoticeAnswer::Done);
        // A page of the log that was read before the early step, by another daemon.
        for channel in ["a", "b"] {
            let new = vec![message(39, channel, 0), message(40, channel, 0)];
            assert_eq!(work(w.store, step(Some(3), 5, new)), NoticeAnswer::Stale, "{channel}");
        }
        assert_eq!(listed(w.store, NoticeState::Queued), ["40-a"]);
        let placed = NoticeStep { from: Some(3), to: 5, placed: vec![40], new: vec![message(39, "a", 0)], ..NoticeStep::default() };
        assert_eq!(work(w.store, NoticeWork::Step(Box::new(placed))), NoticeAnswer::Done);
        assert_eq!(listed(w.store, NoticeState::Queued), ["40-a", "39-a"]);
    };
    a_message_is_claimed_by_one_at_a_time_when_it_is_due_and_again_when_the_claim_lapses: |w| {
        let new = vec![message(1, "a", 0), message(2, "a", 10), message(3, "b", 0), message(4, "a", 5_000)];
        work(w.store, step(None, 9, new));
        assert!(!w.store.notice_is_due("a", at(-1), at(MONTH)).unwrap());
        assert!(w.store.notice_is_due("a", at(0), at(MONTH)).unwrap());
        assert!(!w.store.notice_is_due("c", at(0), at(MONTH)).unwrap());
        assert_eq!(w.store.notice_counts().unwrap(), NoticeCounts { queued: 4, due: Some(at(0)), ..NoticeCounts::default() });
        assert_eq!(claimed(w.store, &["a"], 20, 1), [("1-a".to_owned(), 1)]);
        assert_eq!(claimed(w.store, &["a"], 20, 9), [("2-a".to_owned(), 1)]);
        assert_eq!(claimed(w.store, &["a"], 20, 9), []);
        assert_eq!(claimed(w.store, &["b", "a"], 20, 9), [("3-b".to_owned(), 1)]);
        // Nobody settled them.
        let mut again = claimed(w.store, &["a"], 20 + MINUTE, 9);
        again.sort();
        assert_eq!(again, [("1-a".to_owned(), 2), ("2-a".to_owned(), 2), ("4-a".to_owned(), 1)]);
    };
    what_a_wrong_clock_put_off_beyond_every_pause_is_due: |w| {
        work(w.store, step(None, 9, vec![message(1, "a", MONTH), message(2, "a", MONTH + 1)]));
        assert!(!w.store.notice_is_due("a", at(0), at(MONTH + 1)).unwrap());
        assert!(w.store.notice_is_due("a", at(0), at(MONTH)).unwrap());
        assert_eq!(claimed(w.store, &["a"], 0, 9), [("2-a".to_owned(), 1)]);
        assert_eq!(claimed(w.store, &["a"], 0, 9), []);
    };
    an_attempt_counts_while_its_claim_is_the_last_one: |w| {
        work(w.store, step(None, 9, vec![message(1, "a", 0), message(2, "a", 0)]));
        claimed(w.store, &["a"], 0, 9);
        let failed = Attempt::Failed { due: at(2 * MINUTE), error: "smtp_timeout: 1 s".into() };
        assert_eq!(settled(w.store, "1-a", 2, failed.clone()), NoticeAnswer::Changed(0));
        assert_eq!(settled(w.store, "1-a", 1, failed), NoticeAnswer::Changed(1));
        let kept = w.store.notice("1-a").unwrap().unwrap();
        assert_eq!((kept.state, kept.due, kept.error.as_deref()), (NoticeState::Queued, at(2 * MINUTE), Some("smtp_timeout: 1 s")));
        assert!(claimed(w.store, &["a"], 2 * MINUTE - 1, 9).iter().all(|(id, _)| id != "1-a"));
        // That it was sent is true, whoever else has claimed it since.
        assert_eq!(settled(w.store, "2-a", 1, Attempt::Sent { at: at(7), note: Some("smtp_some_refused: 1 of 2".into()) }), NoticeAnswer::Changed(1));
        assert_eq!(settled(w.store, "2-a", 1, Attempt::Sent { at: at(8), note: None }), NoticeAnswer::Changed(0));
        assert_eq!(settled(w.store, "2-a", 1, Attempt::Dead { at: at(8), error: "x".into() }), NoticeAnswer::Changed(0));
        let kept = w.store.notice("2-a").unwrap().unwrap();
        assert_eq!((kept.state, kept.ended), (NoticeState::Sent, Some(at(7))));
        assert_eq!(kept.error.as_deref(), Some("smtp_some_refused: 1 of 2"));
    };
    dead_ones_stay_until_somebody_retries_them_and_what_ended_long_ago_is_forgotten: |w| {
        work(w.store, step(None, 9, vec![message(1, "a", 0), message(2, "a", 0), message(3, "a", 0)]));
        claimed(w.store, &["a"], 0, 9);
        for id in ["1-a", "2-a"] {
            settled(w.store, id, 1, Attempt::Dead { at: at(5), error: "smtp_refused: 550".into() });
        }
        settled(w.store, "3-a", 1, Attempt::Sent { at: at(5), note: None });
        assert_eq!(listed(w.store, NoticeState::Dead), ["2-a", "1-a"]);
        assert_eq!(claimed(w.store, &["a"], 9 * MINUTE, 9), []);
        let retry = |ids: Option<&[&str]>| NoticeWork::Retry {
            ids: ids.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect()), now: at(10 * MINUTE),
        };
        assert_eq!(work(w.store, retry(Some(&["1-a", "3-a", "none"]))), NoticeAnswer::Changed(1));
        assert_eq!(claimed(w.store, &["a"], 10 * MINUTE, 9), [("1-a".to_owned(), 1)]);
        assert_eq!(work(w.store, retry(None)), NoticeAnswer::Changed(1));
        assert_eq!(w.store.notice_counts().unwrap(), NoticeCounts { queued: 2, sent: 1, dead: 0, due: Some(at(10 * MINUTE)) });
        assert_eq!(work(w.store, NoticeWork::Forget { before: at(5), limit: 9 }), NoticeAnswer::Changed(0));
        assert_eq!(work(w.store, NoticeWork::Forget { before: at(6), limit: 9 }), NoticeAnswer::Changed(1));
        assert_eq!(listed(w.store, NoticeState::Queued), ["2-a", "1-a"]);
    };
    what_waits_for_a_channel_that_is_no_more_is_given_up_when_it_is_old: |w| {
        work(w.store, step(None, 9, vec![message(1, "gone", 0), message(2, "a", 0), message(3, "gone", 0), message(4, "gone", 0)]));
        claimed(w.store, &["gone"], 0, 1);
        settled(w.store, "1-gone", 1, Attempt::Sent { at: at(5), note: None });
        let abandon = |before, limit| NoticeWork::Abandon {
            channels: vec!["a".into(), "b".into()], before: at(before), now: at(9), error: "channel_closed: x".into(), limit,
        };
        assert_eq!(work(w.store, abandon(0, 9)), NoticeAnswer::Changed(0));
        assert_eq!(work(w.store, abandon(1, 1)), NoticeAnswer::Changed(1));
        assert_eq!(work(w.store, abandon(1, 9)), NoticeAnswer::Changed(1));
        assert_eq!(listed(w.store, NoticeState::Dead), ["4-gone", "3-gone"]);
        assert_eq!(listed(w.store, NoticeState::Queued), ["2-a"]);
        let dead = w.store.notice("3-gone").unwrap().unwrap();
        assert_eq!((dead.ended, dead.error.as_deref()), (Some(at(9)), Some("channel_closed: x")));
        // None is configured: all of it is given up.
        let none = NoticeWork::Abandon { channels: vec![], before: at(1), now: at(9), error: "x".into(), limit: 9 };
        assert_eq!(work(w.store, none), NoticeAnswer::Changed(1));
    };
    a_digest_grows_until_it_is_claimed: |w| {
        work(w.store, step(None, 1, vec![message(1, "a", MINUTE)]));
        let joins = |from, to| NoticeWork::Step(Box::new(NoticeStep {
            from: Some(from), to, joined: vec![("1-a".into(), content("longer"))], new: vec![message(9, "b", 0)],
            ..NoticeStep::default()
        }));
        assert_eq!(work(w.store, joins(1, 2)), NoticeAnswer::Done);
        assert_eq!(w.store.notice("1-a").unwrap().unwrap().content, content("longer"));
        claimed(w.store, &["a"], MINUTE, 9);
        assert_eq!(work(w.store, joins(2, 3)), NoticeAnswer::Stale);
        assert_eq!(w.store.notice_place().unwrap().next, Some(2));
        assert_eq!(listed(w.store, NoticeState::Queued), ["9-b", "1-a"]);
    };
    messages_are_listed_newest_first_in_pages: |w| {
        work(w.store, step(None, 9, (1..=5).flat_map(|leaf| [message(leaf, "a", 0), message(leaf, "b", 0)]).collect()));
        let (mut after, mut ids) = (None, vec![]);
        loop {
            let page = w.store.notices(&NoticeQuery { after: after.clone(), limit: 3, ..NoticeQuery::default() }).unwrap();
            let Some(last) = page.last() else { break };
            after = Some((last.leaf, last.id.clone()));
            ids.extend(page.into_iter().map(|message| message.id));
        }
        assert_eq!(ids, ["5-b", "5-a", "4-b", "4-a", "3-b", "3-a", "2-b", "2-a", "1-b", "1-a"]);
        let since = NoticeQuery { since: Some(at(1)), limit: 9, ..NoticeQuery::default() };
        assert_eq!(w.store.notices(&since).unwrap(), []);
        let of = |channel: &str, kind| {
            let query = NoticeQuery { channel: Some(channel.into()), kind: Some(kind), limit: 2, ..NoticeQuery::default() };
            w.store.notices(&query).unwrap().into_iter().map(|message| message.id).collect::<Vec<_>>()
        };
        assert_eq!(of("a", NoticeKind::PaymentWaits), ["5-a", "4-a"]);
        assert_eq!(of("a", NoticeKind::AgentFrozen), Vec::<String>::new());
        assert_eq!(of("c", NoticeKind::PaymentWaits), Vec::<String>::new());
    };
}

#[test]
fn two_daemons_share_the_messages_of_one_database() {
    let database = crate::support::postgres::shared().database();
    let stores = [database.open(), database.open()];
    work(&*stores[0], step(None, 100, (1..=100).map(|leaf| message(leaf, "a", 0)).collect()));
    let ids: Vec<String> = std::thread::scope(|scope| {
        let claims = stores.each_ref().map(|store| {
            scope.spawn(move || {
                (0..10).flat_map(|_| claimed(&**store, &["a"], 0, 10)).map(|(id, _)| id).collect::<Vec<_>>()
            })
        });
        claims.into_iter().flat_map(|claim| claim.join().unwrap()).collect()
    });
    let different: std::collections::BTreeSet<&String> = ids.iter().collect();
    assert_eq!(ids.len(), different.len(), "claimed twice: {ids:?}");
    assert!(claimed(&*stores[1], &["a"], 0, 100).len() + ids.len() == 100);
    // One of two steps from the same place counts.
    let steps = std::thread::scope(|scope| {
        let taken = stores
            .each_ref()
            .map(|store| scope.spawn(move || work(&**store, step(Some(100), 101, vec![message(101, "a", 0)]))));
        taken.map(|step| step.join().unwrap())
    });
    assert_eq!(steps.iter().filter(|step| **step == NoticeAnswer::Done).count(), 1, "{steps:?}");
}
