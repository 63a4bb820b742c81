//! Name constraints (RFC 5280, 4.2.1.10): which names the certificates below a CA may have.
//!
//! A wildcard is judged by every name that it stands for: it is permitted when all of them are, excluded when one is.

use super::name::{EMAIL_ADDRESS, GeneralName, check_name, directory_is_within, is_dns_name, mailbox, uri_host_name};
use super::rule::{Broken, PathRule};
use crate::kernel::credential::der::{self, NotDer, Reader};

/// Comparisons of a name with a constraint, of all that one question asks (as many as webpki allows itself).
pub(super) const COMPARISONS_MAX: u32 = 250_000;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct NameConstraints<'a> {
    permitted: Vec<GeneralName<'a>>,
    excluded: Vec<GeneralName<'a>>,
}

impl<'a> NameConstraints<'a> {
    /// # Errors
    /// [`NotDer`], also for a base that is none of its form, and for minimum and maximum, which are not used.
    pub(super) fn read(value: &'a [u8]) -> Result<Self, NotDer> {
        let mut reader = Reader::whole_sequence(value)?;
        let mut subtrees = |number| -> Result<Vec<GeneralName<'a>>, NotDer> {
            let Some(list) = reader.optional(der::context_constructed(number))? else {
                return Ok(Vec::new());
            };
            let mut list = Reader::new(list.content);
            let mut bases = Vec::new();
            while !list.is_empty() {
                let mut subtree = list.sequence()?;
                let base = GeneralName::read(&mut subtree)?;
                subtree.finish()?;
                if !is_base(base) {
                    return Err(NotDer("the base of a subtree"));
                }
                bases.push(base);
            }
            if bases.is_empty() { Err(NotDer("at least one subtree")) } else { Ok(bases) }
        };
        let read = Self { permitted: subtrees(0)?, excluded: subtrees(1)? };
        reader.finish()?;
        if read == Self::default() { Err(NotDer("at least one subtree")) } else { Ok(read) }
    }

    /// True when webpki implements every form in it: it refuses names of the others whatever they are.
    pub(super) fn is_for_webpki(&self) -> bool {
        let plain = |base: &GeneralName<'_>| matches!(base, GeneralName::Dns(_) | GeneralName::Ip(_));
        self.permitted.iter().chain(&self.excluded).all(plain)
    }

    /// Judges the names of one certificate below.
    ///
    /// # Errors
    /// [`PathRule::NameExcluded`], [`PathRule::NameNotPermitted`], [`PathRule::NameConstraintUnsupported`],
    /// [`PathRule::WorkExceeded`]
    pub(super) fn check(&self, names: &[GeneralName<'_>], comparisons: &mut u32) -> Result<(), Broken> {
        for name in names {
            let mut constrained = false;
            let mut permitted = false;
            for (base, excludes) in
                self.excluded.iter().map(|base| (base, true)).chain(self.permitted.iter().map(|base| (base, false)))
            {
                *comparisons = comparisons
                    .checked_sub(1)
                    .ok_or(PathRule::WorkExceeded.because("too many names, too many constraints"))?;
                let Some(relation) = relation(*name, *base)? else {
                    continue;
                };
                if excludes {
                    if relation != Relation::Outside {
                        return Err(PathRule::NameExcluded.because(form(*name)));
                    }
                } else {
                    constrained = true;
                    permitted |= relation == Relation::Within;
                }
            }
            if constrained && !permitted {
                return Err(PathRule::NameNotPermitted.because(form(*name)));
            }
        }
        Ok(())
    }
}

/// Every name that a certificate has, in the subject too: what the constraints of its CAs apply to.
pub(super) fn names_of<'a>(subject: &'a [u8], alternatives: &[GeneralName<'a>]) -> Vec<GeneralName<'a>> {
    let mut names = alternatives.to_vec();
    if subject != [der::SEQUENCE, 0] {
        names.push(GeneralName::Directory(subject));
    }
    for attribute in check_name(subject).unwrap_or_default().into_iter().flatten() {
        if attribute.oid == EMAIL_ADDRESS {
            // What is no mailbox, or not even text, is within nothing.
            names.push(GeneralName::Email(std::str::from_utf8(attribute.content).unwrap_or_default()));
        }
    }
    names
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Relation {
    Within,
    /// Some of what the name stands for.
    Partly,
    Outside,
}

fn when(within: bool) -> Relation {
    if within { Relation::Within } else { Relation::Outside }
}

/// How a name lies to a base. `None`: they are of different forms.
fn relation(name: GeneralName<'_>, base: GeneralName<'_>) -> Result<Option<Relation>, Broken> {
    let unsupported = |why| Err(PathRule::NameConstraintUnsupported.because(why));
    match (name, base) {
        (GeneralName::Dns(name), GeneralName::Dns(base)) => Ok(Some(dns(name, base))),
        (GeneralName::Email(name), GeneralName::Email(base)) => match mailbox(name) {
            Some((local, host)) => Ok(Some(when(email_is_within(name, local, host, base)))),
            None => unsupported("an e-mail address that is none is constrained"),
        },
        (GeneralName::Uri(name), GeneralName::Uri(base)) => match uri_host_name(name) {
            Some(host) => Ok(Some(when(host_is_within(host, base)))),
            None => unsupported("a URI without a host name is constrained"),
        },
        (GeneralName::Ip(address), GeneralName::Ip(base)) => Ok(Some(when(address_is_within(address, base)))),
        (GeneralName::Directory(name), GeneralName::Directory(base)) => Ok(Some(when(directory_is_within(name, base)))),
        (GeneralName::Other, GeneralName::Other) => unsupported("an otherName is constrained"),
        (GeneralName::X400, GeneralName::X400) => unsupported("an x400Address is constrained"),
        (GeneralName::Edi, GeneralName::Edi) => unsupported("an ediPartyName is constrained"),
        (GeneralName::Registered, GeneralName::Registered) => unsupported("a registeredID is constrained"),
        (
            GeneralName::Other
            | GeneralName::Email(_)
            | GeneralName::Dns(_)
            | GeneralName::X400
            | GeneralName::Directory(_)
            | GeneralName::Edi
            | GeneralName::Uri(_)
            | GeneralName::Ip(_)
            | GeneralName::Registered,
            _,
        ) => Ok(None),
    }
}

fn form(name: GeneralName<'_>) -> &'static str {
    match name {
        GeneralName::Other => "an otherName",
        GeneralName::Email(_) => "an e-mail address",
        GeneralName::Dns(_) => "a DNS name",
        GeneralName::X400 => "an x400Address",
        GeneralName::Directory(_) => "a directory name",
        GeneralName::Edi => "an ediPartyName",
        GeneralName::Uri(_) => "a URI",
        GeneralName::Ip(_) => "an address",
        GeneralName::Registered => "a registeredID",
    }
}

fn is_base(base: GeneralName<'_>) -> bool {
    match base {
        GeneralName::Other | GeneralName::X400 | GeneralName::Edi | GeneralName::Registered => true,
        // The empty name is the base of all.
        GeneralName::Dns(text) => text.is_empty() || is_dns_name(text),
        GeneralName::Email(text) => mailbox(text).is_some() || is_host_base(text),
        GeneralName::Uri(text) => is_host_base(text),
        GeneralName::Directory(name) => check_name(name).is_ok(),
        GeneralName::Ip(range) => match range.len() {
            8 => is_mask(&range[4..]),
            32 => is_mask(&range[16..]),
            _ => false,
        },
    }
}

/// A host, or with a dot before it, everything below it.
fn is_host_base(text: &str) -> bool {
    is_dns_name(text.strip_prefix('.').unwrap_or(text))
}

/// Ones, then zeros (RFC 4632, 3.1).
fn is_mask(mask: &[u8]) -> bool {
    let ones: u32 = mask.iter().take_while(|byte| **byte == 0xff).count() as u32;
    mask.iter()
        .skip(ones as usize)
        .enumerate()
        .all(|(index, byte)| if index == 0 { byte.leading_ones() + byte.trailing_zeros() >= 8 } else { *byte == 0 })
}

fn dns(name: &str, base: &str) -> Relation {
    match name.strip_prefix("*.") {
        None => when(dns_is_within(name, base)),
        Some(parent) if dns_is_within(parent, base) => Relation::Within,
        // `*.example.com` stands for `bar.example.com` too.
        Some(parent) => match base.split_once('.') {
            Some((_, above)) if above.eq_ignore_ascii_case(parent) => Relation::Partly,
            Some(_) | None => Relation::Outside,
        },
    }
}

fn dns_is_within(name: &str, base: &str) -> bool {
    base.is_empty() || name.eq_ignore_ascii_case(base) || is_below(name, base)
}

/// Adds at least one label on the left. Names are ASCII.
fn is_below(name: &str, base: &str) -> bool {
    let above = name.len().checked_sub(base.len()).and_then(|at| name.split_at_checked(at));
    above.is_some_and(|(left, right)| left.ends_with('.') && right.eq_ignore_ascii_case(base))
}

fn host_is_within(host: &str, base: &str) -> bool {
    match base.strip_prefix('.') {
        Some(domain) => is_below(host, domain),
        None => host.eq_ignore_ascii_case(base),
    }
}

fn email_is_within(whole: &str, local: &str, host: &str, base: &str) -> bool {
    match mailbox(base) {
        // The local part has a case of its own (RFC 5321, 2.4).
        Some((base_local, base_host)) => local == base_local && host.eq_ignore_ascii_case(base_host),
        None => !whole.is_empty() && host_is_within(host, base),
    }
}

fn address_is_within(address: &[u8], range: &[u8]) -> bool {
    let (base, mask) = range.split_at(range.len() / 2);
    address.len() == base.len() && address.iter().zip(base).zip(mask).all(|((one, two), mask)| one & mask == two & mask)
}
