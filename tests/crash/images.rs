//! Power loss as a real file system sees it: a load writes to an ext4 image, which lies on XFS, where a copy by
//! reference is taken in one moment. Each copy is a disk whose power was cut then.
//!
//! Needs root and loop devices; `power` does the same for every step without either.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bank::{Bank, Options};
use crate::seed::{Chance, runs};

const OUTER_MIB: u64 = 1_500;
const INNER_MIB: u64 = 192;

fn done(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} does not start: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An image that is mounted here, and not any more when it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, at: PathBuf, options: &str) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        done("mount", &["-o", options, &image.display().to_string(), &at.display().to_string()]);
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).output();
    }
}

fn image(path: &Path, mib: u64) {
    std::fs::File::create(path).unwrap().set_len(mib << 20).unwrap();
}

#[test]
#[ignore = "in the long run: needs root, loop devices, xfsprogs and e2fsprogs"]
fn full_images_of_a_disk_whose_power_was_cut_have_everything_that_was_acknowledged() {
    let scratch = tempfile::tempdir().unwrap();
    let (outer, outer_at) = (scratch.path().join("outer"), scratch.path().join("xfs"));
    image(&outer, OUTER_MIB);
    done("mkfs.xfs", &["-q", "-m", "reflink=1", &outer.display().to_string()]);
    let outer = Mounted::new(&outer, outer_at, "loop");
    let live = outer.0.join("live");
    image(&live, INNER_MIB);
    done("mkfs.ext4", &["-q", "-F", &live.display().to_string()]);
    let disk = Mounted::new(&live, scratch.path().join("ext4"), "loop");

    let store = format!("sqlite:{}", disk.0.join("store/store.sqlite3").display());
    let mut bank = Bank::with_store("images", tempfile::tempdir().unwrap(), store);
    let mut chance = Chance::new("images");
    let mut running = bank.start(&Options { callers: 4, ..Options::default() });
    let images = runs(20).min(100);
    for number in 0..images {
        assert!(bank.note_some(&mut running, 1 + chance.below(300)), "{}", bank.context());
        // Everything noted so far was told before this moment.
        let cut = outer.0.join("cut");
        done("cp", &["--reflink=always", &live.display().to_string(), &cut.display().to_string()]);
        let after = Mounted::new(&cut, scratch.path().join("after"), "loop");
        let copy = bank.copy();
        let restored = copy.directory.path().join("store");
        done("cp", &["-a", &after.0.join("store").display().to_string(), &restored.display().to_string()]);
        drop(after);
        std::fs::remove_file(&cut).unwrap();
        // What was told later was asked later: the image may have it, and its leaf has an intent in no journal.
        let mut copy = copy.asked_by_others();
        copy.is_sound();
        let ended = copy.run(&Options { callers: 2, steps: Some(2), ..Options::default() });
        assert!(ended.success(), "image {number}: {}", copy.context());
        copy.is_sound();
    }
    running.kill();
    bank.note_all(&mut running);
    bank.is_sound();
    println!("{images} images");
}
