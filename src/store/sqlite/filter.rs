//! "Certainly not there": which hashes were surely never added, in a few bits each.
//!
//! A Bloom filter in blocks of one cache line (Putze, Sanders, Singler: "Cache-, Hash- and Space-Efficient Bloom
//! Filters", 2007): a hash chooses a block and one bit in each of its eight words. Layers grow as hashes come, so
//! nobody has to know beforehand how many there will be.

use crate::kernel::types::Sha256;

/// Eight words of 64 bits.
type Block = [u64; 8];

/// Hashes for a block: 16 bits each, one in about 1,000 is found without having been added.
const HASHES_A_BLOCK: usize = 32;
const FIRST_LAYER_BLOCKS: usize = 128;
/// 4 MiB: a layer for two million hashes.
const LAYER_BLOCKS_MAX: usize = 65_536;

/// Hashes that were added, and a few that were not.
#[derive(Debug, Default)]
pub(super) struct Filter {
    layers: Vec<Layer>,
    /// It has no memory any more and says "perhaps" to everything.
    given_up: bool,
}

#[derive(Debug)]
struct Layer {
    blocks: Vec<Block>,
    hashes: usize,
}

impl Filter {
    pub(super) fn add(&mut self, hash: &Sha256) {
        if self.given_up {
            return;
        }
        let full = |layer: &Layer| layer.hashes >= layer.blocks.len() * HASHES_A_BLOCK;
        if self.layers.last().is_none_or(full) {
            let blocks = self.layers.last().map_or(FIRST_LAYER_BLOCKS, |layer| layer.blocks.len() * 2);
            self.layers.push(Layer { blocks: vec![[0; 8]; blocks.min(LAYER_BLOCKS_MAX)], hashes: 0 });
        }
        if let Some(layer) = self.layers.last_mut() {
            let (place, bits) = layer.chosen(hash);
            for (word, bit) in layer.blocks[place].iter_mut().zip(bits) {
                *word |= bit;
            }
            layer.hashes += 1;
        }
    }

    /// False only for what was never added.
    pub(super) fn may_have(&self, hash: &Sha256) -> bool {
        self.given_up
            || self.layers.iter().any(|layer| {
                let (place, bits) = layer.chosen(hash);
                layer.blocks[place].iter().zip(bits).all(|(word, bit)| word & bit != 0)
            })
    }

    /// Gives its memory back; what it is asked for must be looked up from now on.
    pub(super) fn give_up(&mut self) {
        *self = Self { layers: vec![], given_up: true };
    }

    pub(super) fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.blocks.len() * size_of::<Block>()).sum()
    }
}

impl Layer {
    /// A block and a bit of each of its words. The hash is one of ours: its bits are as good as random.
    fn chosen(&self, hash: &Sha256) -> (usize, Block) {
        let number = |from: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&hash.0[from..from + 8]);
            u64::from_le_bytes(bytes)
        };
        // There are never 2^64 blocks.
        let place = usize::try_from(number(0) % self.blocks.len() as u64).unwrap_or(0);
        let choice = number(8);
        (place, std::array::from_fn(|word| 1 << (choice >> (word * 6) & 63)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u32) -> Sha256 {
        Sha256::of(&[&number.to_be_bytes()])
    }

    #[test]
    fn what_was_added_is_always_found_and_little_else() {
        let mut filter = Filter::default();
        for number in 0..50_000 {
            assert_eq!(filter.layers.iter().map(|layer| layer.hashes).sum::<usize>(), number as usize);
            filter.add(&hash(number));
        }
        assert!((0..50_000).all(|number| filter.may_have(&hash(number))));
        let wrong = (50_000..150_000).filter(|number| filter.may_have(&hash(*number))).count();
        assert!(wrong < 1_000, "{wrong} of 100,000");
        assert!(filter.bytes() < 50_000 * 8, "{} bytes", filter.bytes());
        filter.give_up();
        filter.add(&hash(0));
        assert_eq!((filter.bytes(), filter.may_have(&hash(1_000_000))), (0, true));
    }
}
