//! An archive with one writing: POSIX ustar, plain files only, all that varies fixed.
//!
//! Any `tar` opens it. What is read must be what would be written for the same names and bytes: two archives of the same
//! members are the same bytes, and nothing fits between them.

/// Bytes of a block: headers are one, contents are padded to it.
const BLOCK: usize = 512;
/// Longest name of a member, by the format.
const NAME_BYTES_MAX: usize = 100;
/// Members that are read at all.
const MEMBERS_MAX: usize = 256;

/// A file of an archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// The bytes are no archive of ours, or a name cannot be in one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct TarRefused(pub &'static str);

/// The archive of these members, in their order.
///
/// # Errors
/// [`TarRefused`] for a name that is empty, too long, or of other letters than `a-z`, digits, `-`, `.` and `/`; for a
/// member that is too long.
pub fn write(members: &[Member]) -> Result<Vec<u8>, TarRefused> {
    let mut out = Vec::new();
    for member in members {
        out.extend_from_slice(&header(&member.name, member.bytes.len())?);
        out.extend_from_slice(&member.bytes);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    Ok(out)
}

/// The members of an archive that [`write()`] wrote.
///
/// # Errors
/// [`TarRefused`]
pub fn read(mut bytes: &[u8]) -> Result<Vec<Member>, TarRefused> {
    let mut members = Vec::new();
    loop {
        let (block, rest) = bytes.split_first_chunk::<BLOCK>().ok_or(TarRefused("it ends in the middle"))?;
        if block.iter().all(|byte| *byte == 0) {
            let ends = rest.len() == BLOCK && rest.iter().all(|byte| *byte == 0);
            return if ends { Ok(members) } else { Err(TarRefused("it does not end in two empty blocks")) };
        }
        if members.len() == MEMBERS_MAX {
            return Err(TarRefused("it has more members than any bundle"));
        }
        let name = block[..NAME_BYTES_MAX].split(|byte| *byte == 0).next().unwrap_or_default();
        let name = std::str::from_utf8(name).map_err(|_| TarRefused("a name is not text"))?;
        let size = block[124..135].iter().try_fold(0_usize, |size, digit| match digit {
            b'0'..=b'7' => size.checked_mul(8)?.checked_add(usize::from(digit - b'0')),
            _ => None,
        });
        let size = size.ok_or(TarRefused("a length is not octal"))?;
        // One header for one name and length: owner, mode and time are nobody's choice.
        if header(name, size)? != *block {
            return Err(TarRefused("a header is not the one writing of its name and length"));
        }
        let padded = size.checked_next_multiple_of(BLOCK).ok_or(TarRefused("a length is not octal"))?;
        let (content, rest) = rest.split_at_checked(padded).ok_or(TarRefused("it ends in the middle"))?;
        let (content, padding) = content.split_at(size);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(TarRefused("something stands behind a member"));
        }
        members.push(Member { name: name.to_owned(), bytes: content.to_vec() });
        bytes = rest;
    }
}

/// A ustar header (POSIX.1-1988): mode 0644, owner 0, time 0, no names of owners.
fn header(name: &str, size: usize) -> Result<[u8; BLOCK], TarRefused> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-./".contains(&byte);
    let is_path = name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
    if name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) || !is_path {
        return Err(TarRefused("a name is not a plain relative path"));
    }
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    let length = format!("{size:011o}\0");
    if length.len() > 12 {
        return Err(TarRefused("a member is too long"));
    }
    put(124, length.as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(329, b"0000000\0");
    put(337, b"0000000\0");
    // The checksum is made with eight spaces in its place.
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(name: &str, bytes: &[u8]) -> Member {
        Member { name: name.into(), bytes: bytes.to_vec() }
    }

    #[test]
    fn an_archive_reads_back_and_has_no_second_writing() {
        let members = [member("manifest.json", b"{}\n"), member("a/b-1.der", &[7; 512]), member("empty", b"")];
        let bytes = write(&members).unwrap();
        assert_eq!(bytes.len(), 512 * (2 + 2 + 1 + 2));
        assert_eq!(read(&bytes).unwrap(), members);
        // Each byte of headers, padding and end is fixed; those of the contents are the contents'.
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            if let Ok(read) = read(&other) {
                assert_ne!(read, members, "byte {at}");
                assert_eq!(write(&read).unwrap(), other, "byte {at}");
            }
        }
        for bad in [
            &bytes[..bytes.len() - 1],
            &bytes[..bytes.len() - 512],
            &bytes[..512],
            &[],
            &[bytes.as_slice(), &[0; 512]].concat(),
        ] {
            assert!(read(bad).is_err(), "{} bytes", bad.len());
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_in_no_archive() {
        for name in [
            "",
            "/etc/passwd",
            "../up",
            "a/../b",
            "a//b",
            "a/",
            ".hidden",
            "UPPER",
            "with space",
            "ä",
            &"a".repeat(101),
        ] {
            assert!(write(&[member(name, b"")]).is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_one_archive_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            if let Ok(members) = read(&bytes) {
                prop_assert_eq!(write(&members).unwrap(), bytes);
            }
        }
    }
}
