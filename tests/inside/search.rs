//! Looks for a secret without holding it: a rolling hash finds candidates, SHA-256 decides.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use countersign::kernel::types::Sha256;
use serde::{Deserialize, Serialize};

/// Multiplier of the rolling hash, modulo 2^64; odd, without a pattern.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const PAGE_BYTES: u64 = 4096;
/// One read; what overlaps into the next is carried over.
const CHUNK_BYTES: usize = 1 << 20;

/// What is known of a secret to whoever searches for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Needle {
    pub name: String,
    length: usize,
    rolling: u64,
    digest: Sha256,
}

impl Needle {
    pub fn of(name: &str, secret: &[u8]) -> Self {
        let rolling = secret.iter().fold(0_u64, |hash, byte| step(hash, *byte));
        Self { name: name.into(), length: secret.len(), rolling, digest: Sha256::of(&[secret]) }
    }

    /// How often the secret is in these bytes.
    pub fn count_in(&self, bytes: &[u8]) -> usize {
        let Some(first) = bytes.get(..self.length) else {
            return 0;
        };
        let leaving = (1..self.length).fold(1_u64, |power, _| power.wrapping_mul(FACTOR));
        let mut hash = first.iter().fold(0, |hash, byte| step(hash, *byte));
        let mut found = 0;
        for at in 0.. {
            let window = &bytes[at..at + self.length];
            if hash == self.rolling && Sha256::of(&[window]) == self.digest {
                found += 1;
            }
            let Some(next) = bytes.get(at + self.length) else {
                break;
            };
            hash = step(hash.wrapping_sub(u64::from(window[0]).wrapping_mul(leaving)), *next);
        }
        found
    }
}

fn step(hash: u64, byte: u8) -> u64 {
    hash.wrapping_mul(FACTOR).wrapping_add(byte.into())
}

/// What a search through a process's memory or a dump of it found.
#[derive(Default)]
pub struct Found {
    pub bytes_searched: usize,
    /// Needle and place.
    pub hits: Vec<String>,
}

/// Searches every page of this process that is in memory.
pub fn own_memory(needles: &[Needle]) -> io::Result<Found> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let (memory, pages) = (File::open("/proc/self/mem")?, File::open("/proc/self/pagemap")?);
    let mut found = Found::default();
    for line in maps.lines() {
        let Some((start, end)) = line.split_whitespace().next().and_then(range) else {
            continue;
        };
        for (from, to) in present(&pages, start, end) {
            let mut at = from;
            while at < to {
                let mut chunk = vec![0; usize::try_from(to - at).unwrap_or(usize::MAX).min(CHUNK_BYTES)];
                // Pages of the kernel's own ([vvar]) cannot be read.
                if memory.read_exact_at(&mut chunk, at).is_err() {
                    break;
                }
                note(needles, &chunk, line, &mut found);
                at += advance(needles, chunk.len(), to - at);
            }
        }
    }
    Ok(found)
}

/// Searches a file, whole.
pub fn file(path: &std::path::Path, needles: &[Needle]) -> io::Result<Found> {
    let (mut file, mut found, mut kept) = (File::open(path)?, Found::default(), Vec::new());
    loop {
        let mut chunk = kept;
        let before = chunk.len();
        file.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
        if chunk.len() == before {
            return Ok(found);
        }
        note(needles, &chunk, &path.to_string_lossy(), &mut found);
        kept = chunk.split_off(chunk.len() - overlap(needles).min(chunk.len()));
    }
}

fn note(needles: &[Needle], chunk: &[u8], place: &str, found: &mut Found) {
    const ZEROS: [u8; 1024] = [0; 1024];
    found.bytes_searched += chunk.len();
    // No secret has a zero byte, so none reaches into zeros, which most of a memory is.
    let is_empty = |block: &[u8]| block == &ZEROS[..block.len()];
    let blocks: Vec<&[u8]> = chunk.chunks(ZEROS.len()).collect();
    let mut at = 0;
    for run in blocks.chunk_by(|a, b| is_empty(a) == is_empty(b)) {
        let bytes = run.iter().map(|block| block.len()).sum::<usize>();
        for needle in needles.iter().filter(|_| !is_empty(run[0])) {
            if needle.count_in(&chunk[at..at + bytes]) > 0 {
                found.hits.push(format!("{} in {place}", needle.name));
            }
        }
        at += bytes;
    }
}

fn overlap(needles: &[Needle]) -> usize {
    needles.iter().map(|needle| needle.length.saturating_sub(1)).max().unwrap_or(0)
}

/// How far to go on: less than was read, unless that was the rest.
fn advance(needles: &[Needle], read: usize, rest: u64) -> u64 {
    let read = read as u64;
    if read == rest { read } else { read - overlap(needles) as u64 }
}

fn range(text: &str) -> Option<(u64, u64)> {
    let (start, end) = text.split_once('-')?;
    Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
}

/// Runs of pages that are in memory or swapped out: bits 63 and 62 of their entries (proc_pid_pagemap(5)).
fn present(pages: &File, start: u64, end: u64) -> Vec<(u64, u64)> {
    let count = usize::try_from((end - start) / PAGE_BYTES).unwrap_or(0);
    let mut entries = vec![0; count * 8];
    if pages.read_exact_at(&mut entries, start / PAGE_BYTES * 8).is_err() {
        return vec![(start, end)];
    }
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (index, entry) in entries.chunks_exact(8).enumerate() {
        if entry[7] & 0xc0 == 0 {
            continue;
        }
        let at = start + index as u64 * PAGE_BYTES;
        match runs.last_mut() {
            Some((_, to)) if *to == at => *to += PAGE_BYTES,
            Some(_) | None => runs.push((at, at + PAGE_BYTES)),
        }
    }
    runs
}
