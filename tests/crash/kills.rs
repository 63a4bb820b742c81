//! SIGKILL at random moments under load.

use crate::bank::{Bank, Options};
use crate::seed::{Chance, runs};

/// Kills on one store before a new one is begun.
const KILLS_OF_A_STORE: u64 = 8;

#[test]
fn killed_at_random_under_load_nothing_acknowledged_is_lost_and_nothing_is_half_there() {
    killed("kills", runs(24), &Options::default());
}

#[test]
fn killed_at_random_while_a_core_settles_every_order_and_every_word_of_it_is_there_once() {
    killed("kills-core", runs(8), &Options { core: true, ..Options::default() });
}

fn killed(name: &str, kills_wanted: u64, options: &Options) {
    let mut chance = Chance::new(name);
    let mut kills = 0;
    while kills < kills_wanted {
        let mut bank = Bank::new(name);
        for _ in 0..KILLS_OF_A_STORE.min(kills_wanted - kills) {
            // Sometimes in the middle of the set-up, mostly later.
            let reach = [30, 400, 1_500][usize::from(chance.below(3) as u8)];
            let (lines, callers) = (1 + chance.below(reach), 1 + chance.below(8));
            bank.run_and_kill(&Options { callers, ..options.clone() }, lines);
            kills += 1;
            bank.is_sound();
        }
        // What was never answered is asked once more, and everything comes to an end.
        let ended = bank.run(&Options { steps: Some(20), ..options.clone() });
        assert!(ended.success(), "{}", bank.context());
        bank.is_sound();
    }
    println!("{kills} kills");
}
