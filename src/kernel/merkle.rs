//! The Merkle tree of RFC 9162 (section 2.1): roots, proofs, and the frontier of an append-only log.
//!
//! A tree is seen as its *complete subtrees*: node (level, index) covers the leaves `index << level` up to
//! `(index + 1) << level`. Once complete a node never changes, so a log stores each once and every proof, for every
//! size, is put together from stored nodes. Proofs are built by one recursion and verified by the iterative
//! algorithms of the RFC, so that the two check each other.

use crate::kernel::types::Sha256;

/// Levels that a tree of `u64` leaves can have.
const LEVELS_MAX: usize = 64;

/// `SHA-256(0x00 ‖ entry)` (RFC 9162, 2.1.1).
pub fn leaf_hash(entry: &[u8]) -> Sha256 {
    Sha256::of(&[&[0], entry])
}

/// `SHA-256(0x01 ‖ left ‖ right)` (RFC 9162, 2.1.1).
pub fn node_hash(left: &Sha256, right: &Sha256) -> Sha256 {
    Sha256::of(&[&[1], &left.0, &right.0])
}

/// The root of a tree with these leaf hashes; of none it is `SHA-256("")`.
pub fn root(leaf_hashes: &[Sha256]) -> Sha256 {
    let mut frontier = Frontier::empty();
    for leaf in leaf_hashes {
        frontier.append(*leaf, |_, _, _| {});
    }
    frontier.root()
}

/// The inclusion path of leaf `index`, from the leaf up (RFC 9162, 2.1.3.1).
/// Empty when `index` is not below the number of leaves: no verification accepts that.
pub fn inclusion_path(leaf_hashes: &[Sha256], index: u64) -> Vec<Sha256> {
    let levels = complete_levels(leaf_hashes);
    let path = inclusion_path_from(index, leaf_hashes.len() as u64, |node| read_levels(&levels, node));
    path.unwrap_or_else(|never: std::convert::Infallible| match never {})
}

/// The path that shows that the tree of the first `old_size` leaves is a prefix (RFC 9162, 2.1.4.1).
/// Empty when the sizes are equal, or when `old_size` is 0 or beyond the number of leaves.
pub fn consistency_path(leaf_hashes: &[Sha256], old_size: u64) -> Vec<Sha256> {
    let levels = complete_levels(leaf_hashes);
    let path = consistency_path_from(old_size, leaf_hashes.len() as u64, |node| read_levels(&levels, node));
    path.unwrap_or_else(|never: std::convert::Infallible| match never {})
}

/// True when `path` leads from the leaf at `index` to `root` in a tree of `size` leaves (RFC 9162, 2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf_hash: &Sha256, index: u64, size: u64, path: &[Sha256], root: &Sha256) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, *leaf_hash);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// True when `path` shows that the tree (`old_size`, `old_root`) is a prefix of (`new_size`, `new_root`)
/// (RFC 9162, 2.1.4.2). Equal sizes need equal roots and an empty path; an empty old tree proves nothing and is
/// refused, as the RFC asks for `0 < old_size`.
#[must_use]
pub fn verify_consistency(old_size: u64, new_size: u64, old_root: &Sha256, new_root: &Sha256, path: &[Sha256]) -> bool {
    if old_size == 0 || old_size > new_size {
        return false;
    }
    if old_size == new_size {
        return path.is_empty() && old_root == new_root;
    }
    // A complete old tree is itself the first node of the path; the RFC leaves it out of the proof.
    let (first, rest) = if old_size.is_power_of_two() {
        (old_root, path)
    } else {
        match path.split_first() {
            Some(split) => split,
            None => return false,
        }
    };
    if rest.is_empty() {
        return false;
    }
    let skipped = (old_size - 1).trailing_ones();
    let (mut node, mut last) = (shift_right(old_size - 1, skipped), shift_right(new_size - 1, skipped));
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}

/// Names a complete subtree: it covers the leaves `index << level` up to `(index + 1) << level`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId {
    pub level: u8,
    pub index: u64,
}

/// [`inclusion_path`] from stored nodes: `read` answers complete subtrees within the first `size` leaves, about
/// 2 · log2(size) of them.
///
/// # Errors
/// Whatever `read` fails with.
pub fn inclusion_path_from<E>(
    index: u64,
    size: u64,
    mut read: impl FnMut(NodeId) -> Result<Sha256, E>,
) -> Result<Vec<Sha256>, E> {
    let mut path = Vec::new();
    if index >= size {
        return Ok(path);
    }
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split_point(end - start);
        if index < middle {
            path.push(subtree(middle, end, &mut read)?);
            end = middle;
        } else {
            path.push(subtree(start, middle, &mut read)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// [`consistency_path`] from stored nodes within the first `new_size` leaves.
///
/// # Errors
/// Whatever `read` fails with.
pub fn consistency_path_from<E>(
    old_size: u64,
    new_size: u64,
    mut read: impl FnMut(NodeId) -> Result<Sha256, E>,
) -> Result<Vec<Sha256>, E> {
    let mut path = Vec::new();
    if old_size == 0 || old_size >= new_size {
        return Ok(path);
    }
    let (mut start, mut end) = (0, new_size);
    while old_size != end {
        let middle = start + split_point(end - start);
        if old_size <= middle {
            path.push(subtree(middle, end, &mut read)?);
            end = middle;
        } else {
            path.push(subtree(start, middle, &mut read)?);
            start = middle;
        }
    }
    // The old tree's own root is known to the verifier when nothing was split off on its left.
    if start > 0 {
        path.push(subtree(start, end, &mut read)?);
    }
    path.reverse();
    Ok(path)
}

/// The right edge of a growing tree: its complete subtrees from the largest to the smallest, at most 64 hashes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Sha256>,
}

impl Frontier {
    pub fn empty() -> Self {
        Self { size: 0, peaks: Vec::new() }
    }

    /// Takes up a tree of `size` leaves from its stored nodes; `read` is asked for one node a set bit of `size`.
    ///
    /// # Errors
    /// Whatever `read` fails with.
    pub fn load<E>(size: u64, mut read: impl FnMut(NodeId) -> Result<Sha256, E>) -> Result<Self, E> {
        let mut peaks = Vec::new();
        for peak in peaks_of(size) {
            peaks.push(read(peak)?);
        }
        Ok(Self { size, peaks })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf hash and hands each subtree that became complete, the leaf first, to `completed` as
    /// (level, index, hash).
    pub fn append(&mut self, leaf_hash: Sha256, mut completed: impl FnMut(u8, u64, Sha256)) {
        let mut hash = leaf_hash;
        let mut index = self.size;
        completed(0, index, hash);
        // Each trailing one of the size is a complete left neighbour: binary counting with carries.
        for level in 1..=u8::try_from(self.size.trailing_ones()).unwrap_or(u8::MAX) {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            index >>= 1;
            completed(level, index, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root of the tree as it stands.
    pub fn root(&self) -> Sha256 {
        let mut smaller_first = self.peaks.iter().rev();
        let Some(smallest) = smaller_first.next() else {
            return Sha256::of(&[]);
        };
        smaller_first.fold(*smallest, |right, left| node_hash(left, &right))
    }
}

/// The complete subtrees that make up a tree of `size` leaves, the largest (leftmost) first.
pub fn peaks_of(size: u64) -> impl Iterator<Item = NodeId> {
    (0..LEVELS_MAX as u8).rev().filter(move |level| size >> level & 1 == 1).map(move |level| {
        // Leaves left of this peak: the bits of `size` above `level`.
        NodeId { level, index: (size >> level) - 1 }
    })
}

/// Hash of the leaves `start..end`, where `start` is a multiple of the largest power of two up to the width:
/// the ranges that RFC 9162's recursion meets.
fn subtree<E>(start: u64, end: u64, read: &mut impl FnMut(NodeId) -> Result<Sha256, E>) -> Result<Sha256, E> {
    let width = end - start;
    if width.is_power_of_two() {
        // `trailing_zeros` of a u64 is at most 64.
        let level = u8::try_from(width.trailing_zeros()).unwrap_or(u8::MAX);
        return read(NodeId { level, index: start >> level });
    }
    let middle = start + split_point(width);
    let left = subtree(start, middle, read)?;
    let right = subtree(middle, end, read)?;
    Ok(node_hash(&left, &right))
}

/// The largest power of two smaller than `width`, for `width` > 1 (RFC 9162, 2.1.1: k < n ≤ 2k).
fn split_point(width: u64) -> u64 {
    1 << (63 - (width - 1).leading_zeros())
}

/// `value >> bits`, also for 64 bits and more.
fn shift_right(value: u64, bits: u32) -> u64 {
    value.checked_shr(bits).unwrap_or(0)
}

/// Every complete subtree of the leaves, by level and index.
fn complete_levels(leaf_hashes: &[Sha256]) -> Vec<Vec<Sha256>> {
    let mut levels = vec![leaf_hashes.to_vec()];
    loop {
        let below = &levels[levels.len() - 1];
        let above: Vec<Sha256> = below.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
        if above.is_empty() {
            return levels;
        }
        levels.push(above);
    }
}

fn read_levels(levels: &[Vec<Sha256>], node: NodeId) -> Result<Sha256, std::convert::Infallible> {
    let index = usize::try_from(node.index).expect("an index into a slice in memory fits usize");
    Ok(levels[usize::from(node.level)][index])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// MTH of RFC 9162, 2.1.1, word for word.
    fn model_root(leaves: &[Sha256]) -> Sha256 {
        match leaves {
            [] => Sha256::of(&[]),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node_hash(&model_root(left), &model_root(right))
            }
        }
    }

    /// PATH of RFC 9162, 2.1.3.1.
    fn model_path(index: usize, leaves: &[Sha256]) -> Vec<Sha256> {
        if leaves.len() == 1 {
            return vec![];
        }
        let k = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(k);
        let (mut path, other) = if index < k {
            (model_path(index, left), model_root(right))
        } else {
            (model_path(index - k, right), model_root(left))
        };
        path.push(other);
        path
    }

    /// SUBPROOF of RFC 9162, 2.1.4.1. `known` is its `b`.
    fn model_consistency(old: usize, leaves: &[Sha256], known: Option<()>) -> Vec<Sha256> {
        if old == leaves.len() {
            return if known.is_some() { vec![] } else { vec![model_root(leaves)] };
        }
        let k = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(k);
        let (mut path, other) = if old <= k {
            (model_consistency(old, left, known), model_root(right))
        } else {
            (model_consistency(old - k, right, None), model_root(left))
        };
        path.push(other);
        path
    }

    fn leaves(count: usize) -> Vec<Sha256> {
        (0..count).map(|number| leaf_hash(&number.to_be_bytes())).collect()
    }

    /// The eight entries of the Certificate Transparency reference implementation's tests.
    fn known_entries() -> Vec<Vec<u8>> {
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
            .into_iter()
            .map(|text| hex::decode(text).unwrap())
            .collect()
    }

    #[test]
    fn roots_of_the_known_entries_are_the_published_ones() {
        let hashes: Vec<Sha256> = known_entries().iter().map(|entry| leaf_hash(entry)).collect();
        let published = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        for (size, expected) in published.into_iter().enumerate() {
            assert_eq!(root(&hashes[..size]).hex(), expected, "size {size}");
        }
    }

    #[test]
    fn known_proofs_come_out_as_published() {
        let hashes: Vec<Sha256> = known_entries().iter().map(|entry| leaf_hash(entry)).collect();
        let hex = |path: Vec<Sha256>| path.iter().map(Sha256::hex).collect::<Vec<_>>();
        assert_eq!(
            hex(inclusion_path(&hashes, 5)),
            [
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        );
        assert_eq!(
            hex(consistency_path(&hashes, 6)),
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        );
    }

    #[test]
    fn every_proof_of_every_small_tree_is_the_models_and_verifies() {
        for size in 1..=33_usize {
            let all = leaves(size);
            let top = model_root(&all);
            assert_eq!(root(&all), top);
            for index in 0..size {
                let path = inclusion_path(&all, index as u64);
                assert_eq!(path, model_path(index, &all), "leaf {index} of {size}");
                assert!(verify_inclusion(&all[index], index as u64, size as u64, &path, &top));
            }
            for old in 1..=size {
                let path = consistency_path(&all, old as u64);
                assert_eq!(path, model_consistency(old, &all, Some(())), "{old} to {size}");
                assert!(verify_consistency(old as u64, size as u64, &model_root(&all[..old]), &top, &path));
            }
        }
    }

    #[test]
    fn a_frontier_completes_each_subtree_once_and_is_taken_up_from_them() {
        let all = leaves(200);
        let mut frontier = Frontier::empty();
        let mut stored = std::collections::BTreeMap::new();
        for (position, leaf) in all.iter().enumerate() {
            frontier.append(*leaf, |level, index, hash| {
                assert_eq!(stored.insert(NodeId { level, index }, hash), None);
            });
            let size = position + 1;
            assert_eq!(frontier.root(), model_root(&all[..size]));
            let read = |node: NodeId| stored.get(&node).copied().ok_or(node);
            assert_eq!(Frontier::load(size as u64, read), Ok(frontier.clone()));
            assert_eq!(inclusion_path_from(0, size as u64, read).unwrap(), model_path(0, &all[..size]));
        }
        for (node, hash) in &stored {
            let width = 1_usize << node.level;
            let start = usize::try_from(node.index).unwrap() * width;
            assert_eq!(*hash, model_root(&all[start..start + width]));
        }
        let smaller = inclusion_path_from(7, 100, |node| stored.get(&node).copied().ok_or(node)).unwrap();
        assert_eq!(smaller, model_path(7, &all[..100]), "a proof for an earlier size needs no other nodes");
    }

    #[test]
    fn proofs_with_anything_wrong_are_refused() {
        let all = leaves(11);
        let top = root(&all);
        let path = inclusion_path(&all, 4);
        let longer = [path.clone(), vec![top]].concat();
        let mut flipped = path.clone();
        flipped[1].0[31] ^= 1;
        type Inclusion<'a> = (&'a str, u64, u64, &'a [Sha256], &'a Sha256);
        type Consistency<'a> = (&'a str, u64, u64, &'a Sha256, &'a Sha256, &'a [Sha256]);
        let inclusion: [Inclusion<'_>; 9] = [
            ("another index", 5, 11, &path, &top),
            ("index beyond the size", 11, 11, &path, &top),
            ("a far index", u64::MAX, 11, &path, &top),
            ("empty tree", 0, 0, &[], &top),
            ("another size", 4, 17, &path, &top),
            ("a shorter path", 4, 11, &path[..3], &top),
            ("a longer path", 4, 11, &longer, &top),
            ("a flipped bit", 4, 11, &flipped, &top),
            ("another root", 4, 11, &path, &path[0]),
        ];
        for (what, index, size, path, root) in inclusion {
            assert!(!verify_inclusion(&all[4], index, size, path, root), "{what}");
        }
        assert!(!verify_inclusion(&all[5], 4, 11, &path, &top), "another leaf");
        let (old_root, path) = (root(&all[..6]), consistency_path(&all, 6));
        let mut flipped = path.clone();
        flipped[0].0[0] ^= 1;
        let longer = [path.clone(), vec![top]].concat();
        let consistency: [Consistency<'_>; 9] = [
            ("an empty old tree", 0, 11, &old_root, &top, &path),
            ("a shrinking tree", 11, 6, &top, &old_root, &path),
            ("another old size", 5, 11, &old_root, &top, &path),
            ("another new size", 6, 33, &old_root, &top, &path),
            ("swapped roots", 6, 11, &top, &old_root, &path),
            ("no path", 6, 11, &old_root, &top, &[]),
            ("a longer path", 6, 11, &old_root, &top, &longer),
            ("a flipped bit", 6, 11, &old_root, &top, &flipped),
            ("equal sizes with a path", 6, 6, &old_root, &old_root, &path),
        ];
        for (what, old, new, old_root, new_root, path) in consistency {
            assert!(!verify_consistency(old, new, old_root, new_root, path), "{what}");
        }
        assert!(!verify_consistency(8, 11, &root(&all[..8]), &top, &[]), "a power of two without a path");
        assert!(!verify_consistency(6, 6, &old_root, &top, &[]), "equal sizes with other roots");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn proofs_agree_with_the_recursive_model(size in 1_usize..600, at in any::<prop::sample::Index>()) {
            let all = leaves(size);
            let index = at.index(size);
            let (top, path) = (model_root(&all), inclusion_path(&all, index as u64));
            prop_assert_eq!(&path, &model_path(index, &all));
            prop_assert!(verify_inclusion(&all[index], index as u64, size as u64, &path, &top));
            let old = index + 1;
            let path = consistency_path(&all, old as u64);
            prop_assert_eq!(&path, &model_consistency(old, &all, Some(())));
            prop_assert!(verify_consistency(old as u64, size as u64, &root(&all[..old]), &top, &path));
        }

        #[test]
        fn no_numbers_make_a_verification_panic(a in any::<u64>(), b in any::<u64>(), hashes in 0_usize..70) {
            let path = leaves(hashes);
            let one = leaf_hash(b"");
            prop_assert!(!verify_inclusion(&one, a, b, &path, &leaf_hash(b"other")));
            prop_assert!(!verify_consistency(a, b, &one, &leaf_hash(b"other"), &path));
        }
    }
}
