//! The tree cut into tiles, as C2SP `tlog-tiles` has it: 256 hashes a tile, eight levels of the tree between a tile and
//! the one above it.
//!
//! A full tile never changes, so it is a file that may be kept for ever; the last one of each level is partial until 256
//! hashes are there. What a log of some size is made of follows from the size alone.

use std::fmt;

use crate::kernel::merkle::NodeId;

/// Hashes of a full tile.
pub const TILE_WIDTH: u16 = 256;
/// Levels of the tree from a tile to the one above it.
pub const TILE_HEIGHT: u8 = 8;
/// Levels of tiles that a tree of `u64` leaves can have.
const LEVELS: u8 = 8;
/// The directory of the entries, beside those of the levels.
const ENTRIES: &str = "entries";

/// What a tile holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TileKind {
    /// Hashes: of leaves at level 0, of full tiles of the level below above it.
    Hashes { level: u8 },
    /// The entries whose hashes are the tile of level 0 in the same place.
    Entries,
}

/// One tile: its place, and how much of it there is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tile {
    pub kind: TileKind,
    pub index: u64,
    /// 1 to [`TILE_WIDTH`].
    pub width: u16,
}

impl Tile {
    pub fn is_full(self) -> bool {
        self.width == TILE_WIDTH
    }

    /// The complete subtrees whose hashes the tile holds, in order. Of entries: the leaves.
    pub fn nodes(self) -> impl Iterator<Item = NodeId> {
        let level = match self.kind {
            TileKind::Hashes { level } => level * TILE_HEIGHT,
            TileKind::Entries => 0,
        };
        let first = self.index * u64::from(TILE_WIDTH);
        (0..u64::from(self.width)).map(move |offset| NodeId { level, index: first + offset })
    }

    /// Reads what [`fmt::Display`] writes: `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`, and no other writing
    /// of it. None of anything else.
    pub fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("tile/")?;
        let (kind, rest) = rest.split_once('/')?;
        let kind = match kind {
            ENTRIES => TileKind::Entries,
            level => TileKind::Hashes { level: level.parse().ok()? },
        };
        let (place, width) = match rest.split_once(".p/") {
            Some((place, width)) => (place, width.parse().ok()?),
            None => (rest, TILE_WIDTH),
        };
        let mut index: u64 = 0;
        for element in place.split('/') {
            let digits: u64 = element.strip_prefix('x').unwrap_or(element).parse().ok()?;
            index = index.checked_mul(1000)?.checked_add(digits)?;
        }
        let tile = Self { kind, index, width };
        // One path for one tile: refuses leading zeroes, signs, widths of 0 and 256 as a partial one, an `x` too few.
        (tile.is_possible() && tile.to_string() == path).then_some(tile)
    }

    fn is_possible(self) -> bool {
        let level = match self.kind {
            TileKind::Hashes { level } => level,
            TileKind::Entries => 0,
        };
        let highest = u64::MAX.checked_shr(u32::from(level.saturating_add(1)) * u32::from(TILE_HEIGHT)).unwrap_or(0);
        (1..=TILE_WIDTH).contains(&self.width) && level < LEVELS && self.index <= highest
    }
}

/// The path below the log's prefix.
impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes { level } => write!(f, "tile/{level}/")?,
            TileKind::Entries => write!(f, "tile/{ENTRIES}/")?,
        }
        let mut elements = vec![self.index % 1000];
        let mut above = self.index / 1000;
        while above > 0 {
            elements.push(above % 1000);
            above /= 1000;
        }
        for element in elements[1..].iter().rev() {
            write!(f, "x{element:03}/")?;
        }
        write!(f, "{:03}", elements[0])?;
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

/// The tiles of a log of `size` leaves that one of `old_size` does not have: those that became full, and the partial
/// ones at the right edge. The entries first, then the levels from the leaves up, each from left to right.
pub fn grown(old_size: u64, size: u64) -> impl Iterator<Item = Tile> {
    let entries = at_level(old_size, size).map(|(index, width)| Tile { kind: TileKind::Entries, index, width });
    let hashes = (0..LEVELS).flat_map(move |level| {
        let covered = |leaves: u64| leaves.checked_shr(u32::from(level) * u32::from(TILE_HEIGHT)).unwrap_or(0);
        let kind = TileKind::Hashes { level };
        at_level(covered(old_size), covered(size)).map(move |(index, width)| Tile { kind, index, width })
    });
    entries.chain(hashes)
}

/// How many [`grown`] are.
pub fn grown_count(old_size: u64, size: u64) -> u64 {
    let at_level = |covered: &dyn Fn(u64) -> u64| {
        let (old, new) = (covered(old_size), covered(size));
        if new > old { new.div_ceil(u64::from(TILE_WIDTH)) - old / u64::from(TILE_WIDTH) } else { 0 }
    };
    let hashes = (0..LEVELS)
        .map(|level| at_level(&|leaves| leaves.checked_shr(u32::from(level) * u32::from(TILE_HEIGHT)).unwrap_or(0)));
    at_level(&|leaves| leaves).saturating_add(hashes.sum())
}

/// Index and width of the tiles of a level that grew from `old` hashes to `new`.
fn at_level(old: u64, new: u64) -> impl Iterator<Item = (u64, u16)> {
    let width = u64::from(TILE_WIDTH);
    let range = if new > old { old / width..new.div_ceil(width) } else { 0..0 };
    range.map(move |index| {
        let there = (new - index * width).min(width);
        (index, u16::try_from(there).unwrap_or(TILE_WIDTH))
    })
}

/// The bytes are no bundle of so many entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a bundle has two bytes of length before each entry, and nothing behind the last")]
pub struct BundleRefused;

/// A bundle of entries: each with its length before it, two bytes, big endian (C2SP tlog-tiles, "Log entries").
/// None when an entry has more than 65,535 bytes.
pub fn bundle<'a>(entries: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for entry in entries {
        out.extend_from_slice(&u16::try_from(entry.len()).ok()?.to_be_bytes());
        out.extend_from_slice(entry);
    }
    Some(out)
}

/// The entries of a bundle of so many.
///
/// # Errors
/// [`BundleRefused`]
pub fn unbundle(mut bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, BundleRefused> {
    let mut entries = Vec::with_capacity(usize::from(width));
    for _ in 0..width {
        let (length, rest) = bytes.split_first_chunk::<2>().ok_or(BundleRefused)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, rest) = rest.split_at_checked(length).ok_or(BundleRefused)?;
        entries.push(entry);
        bytes = rest;
    }
    if bytes.is_empty() { Ok(entries) } else { Err(BundleRefused) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_the_one_writing_of_a_tile() {
        let hashes = |level, index, width| Tile { kind: TileKind::Hashes { level }, index, width };
        let entries = |index, width| Tile { kind: TileKind::Entries, index, width };
        for (tile, path) in [
            (hashes(0, 0, 256), "tile/0/000"),
            (hashes(0, 1_234_067, 256), "tile/0/x001/x234/067"),
            (hashes(2, 999, 1), "tile/2/999.p/1"),
            (hashes(1, 1000, 255), "tile/1/x001/000.p/255"),
            (entries(273, 112), "tile/entries/273.p/112"),
            (entries(u64::MAX >> 8, 256), "tile/entries/x072/x057/x594/x037/x927/935"),
        ] {
            assert_eq!(tile.to_string(), path);
            assert_eq!(Tile::parse(path), Some(tile), "{path}");
        }
        for path in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/00",
            "tile/0/0000",
            "tile/00/000",
            "tile/8/000",
            "tile/+1/000",
            "tile/-1/000",
            "tile/0/x000",
            "tile/0/x000/000",
            "tile/0/001/000",
            "tile/0/x001/x000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/000.p",
            "tile/0/000.p/1/",
            "/tile/0/000",
            "tile/0/../000",
            "tile/0/x1/000",
            "tile/0/x001//000",
            "tile/0/\u{661}00",
            "tile/Entries/000",
            "tile/entries",
            "tile/entries/x072/x057/x594/x037/x927/936",
            "tile/7/001",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
            "tile/0/000 ",
            "tile/0/000?",
            "tile/0/000.p/1.p/1",
        ] {
            assert_eq!(Tile::parse(path), None, "{path:?}");
        }
    }

    /// C2SP tlog-tiles, "Partial Tiles".
    #[test]
    fn a_tree_has_the_tiles_that_the_document_says() {
        let count = |tiles: Vec<Tile>| {
            let mut counted: BTreeMap<(TileKind, u16), usize> = BTreeMap::new();
            for tile in tiles {
                *counted.entry((tile.kind, tile.width)).or_default() += 1;
            }
            counted.into_iter().collect::<Vec<_>>()
        };
        let hashes = |level, width| (TileKind::Hashes { level }, width);
        let of_70_000 = [
            (hashes(0, 112), 1),
            (hashes(0, 256), 273),
            (hashes(1, 17), 1),
            (hashes(1, 256), 1),
            (hashes(2, 1), 1),
            ((TileKind::Entries, 112), 1),
            ((TileKind::Entries, 256), 273),
        ];
        assert_eq!(count(grown(0, 70_000).collect()), of_70_000);
        let of_256 = [(hashes(0, 256), 1), (hashes(1, 1), 1), ((TileKind::Entries, 256), 1)];
        assert_eq!(count(grown(0, 256).collect()), of_256);
        assert_eq!(grown(7, 7).count() + grown(9, 7).count() + grown(0, 0).count(), 0);
    }

    proptest! {
        #[test]
        fn what_grew_and_what_was_there_are_the_whole(old in 0_u64..200_000, more in 0_u64..70_000) {
            let size = old + more;
            let mut all: BTreeMap<(TileKind, u64), u16> = grown(0, old).map(|tile| ((tile.kind, tile.index), tile.width)).collect();
            for tile in grown(old, size) {
                // What is full never changes.
                prop_assert_ne!(all.insert((tile.kind, tile.index), tile.width), Some(TILE_WIDTH));
            }
            let whole: BTreeMap<_, _> = grown(0, size).map(|tile| ((tile.kind, tile.index), tile.width)).collect();
            prop_assert_eq!(all, whole);
        }

        #[test]
        fn paths_read_back(level in 0_u8..8, index: u64, width in 1_u16..=256) {
            let tile = Tile { kind: TileKind::Hashes { level }, index: index.checked_shr(u32::from(level + 1) * 8).unwrap_or(0), width };
            prop_assert_eq!(Tile::parse(&tile.to_string()), Some(tile));
            prop_assert!(tile.nodes().all(|node| node.level == level * 8));
        }

        #[test]
        fn any_text_is_one_tile_or_none(text in "(tile/)?([0-9]|entries|x)?(/x?[0-9]{1,4}){0,4}(\\.p/[0-9]{0,4})?") {
            if let Some(tile) = Tile::parse(&text) {
                prop_assert_eq!(tile.to_string(), text);
            }
        }

        #[test]
        fn bundles_read_back_and_nothing_else_does(entries in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 1..40)) {
            let bytes = bundle(entries.iter().map(Vec::as_slice)).unwrap();
            let width = u16::try_from(entries.len()).unwrap();
            prop_assert_eq!(unbundle(&bytes, width).unwrap(), entries.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(unbundle(&bytes, width + 1), Err(BundleRefused));
            prop_assert_eq!(unbundle(&bytes, width - 1), Err(BundleRefused));
            prop_assert_eq!(unbundle(&bytes[..bytes.len() - 1], width), Err(BundleRefused));
        }
    }

    #[test]
    fn an_entry_is_no_longer_than_its_length_can_say() {
        assert!(bundle([&[0; 65_535][..]].into_iter()).is_some());
        assert!(bundle([&[0; 65_536][..]].into_iter()).is_none());
    }
}
