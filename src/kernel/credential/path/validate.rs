//! Judges a whole path from the trust anchor down (RFC 5280, 6.1), then its revocation status (6.3).

use super::examine::{Examined, Judged};
use super::extensions::ANY_USAGE;
use super::name::GeneralName;
use super::policy::{Place, PolicyState};
use super::revocation::{self, About, List, ListIssuer};
use super::rule::{Broken, PathRule};
use super::{PathQuestion, Usage, second};
use crate::kernel::credential::oid;

/// One certificate of a path.
#[derive(Clone, Copy)]
pub(super) struct Link<'a, 'b> {
    pub examined: &'b Examined<'a>,
    pub judged: &'b Judged<'a>,
}

/// What one question may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Signatures of certificates and lists.
    pub signatures: u32,
    /// Names with constraints.
    pub comparisons: u32,
}

/// `path`: the certificate in question first, the trust anchor last.
///
/// # Errors
/// Place in the path and the first rule that is broken: lengths, names, policies, usages, the peer's name, status,
/// webpki's opinion.
pub(super) fn validate(
    path: &[Link<'_, '_>],
    lists: &[List<'_>],
    question: &PathQuestion<'_>,
    budget: &mut Budget,
) -> Result<(), (usize, Broken)> {
    check_lengths(path, question.depth_max)?;
    check_names(path, &mut budget.comparisons)?;
    check_policies(path)?;
    check_usages(path, question.usage)?;
    check_peer(path[0], question.name)?;
    check_status(path, lists, question, &mut budget.signatures)?;
    let certificates: Vec<&[u8]> = path.iter().map(|link| link.examined.certificate.raw).collect();
    second::agrees(&certificates, path, question.at).map_err(|broken| (0, broken))
}

/// 6.1.4 (l), (m), and the limit of the question: self-issued CAs do not count.
fn check_lengths(path: &[Link<'_, '_>], depth_max: Option<usize>) -> Result<(), (usize, Broken)> {
    let mut left: Option<u64> = None;
    let mut counted = 0;
    for (place, link) in path.iter().enumerate().skip(1).rev() {
        let is_anchor = place == path.len() - 1;
        if !is_anchor && !link.judged.self_issued {
            counted += 1;
            left = match left {
                Some(0) => return Err((place, PathRule::PathLengthExceeded.because("a CA above allows no more CAs"))),
                Some(more) => Some(more - 1),
                None => None,
            };
        }
        let own = link.judged.extensions.basic_constraints.and_then(|constraints| constraints.path_length);
        left = match (left, own) {
            (Some(left), Some(own)) => Some(left.min(own)),
            (left, own) => left.or(own),
        };
    }
    match depth_max {
        Some(limit) if counted > limit => Err((0, PathRule::DepthExceeded.because("more CAs than were allowed"))),
        Some(_) | None => Ok(()),
    }
}

/// 6.1.3 (b), (c): the constraints of each CA on everything below it but self-issued CAs.
fn check_names(path: &[Link<'_, '_>], comparisons: &mut u32) -> Result<(), (usize, Broken)> {
    for (place, authority) in path.iter().enumerate().skip(1).rev() {
        let Some(constraints) = &authority.judged.extensions.name_constraints else {
            continue;
        };
        for (below, link) in path[..place].iter().enumerate().rev() {
            if below == 0 || !link.judged.self_issued {
                constraints.check(&link.judged.names, comparisons).map_err(|broken| (below, broken))?;
            }
        }
    }
    Ok(())
}

fn check_policies(path: &[Link<'_, '_>]) -> Result<(), (usize, Broken)> {
    let (anchor, below) = path.split_last().expect("a path ends with its anchor");
    let mut state = PolicyState::new(below.len() as u64, &anchor.judged.extensions.policies);
    for (place, link) in below.iter().enumerate().rev() {
        let kind = match (place, link.judged.self_issued) {
            (0, _) => Place::EndEntity,
            (_, true) => Place::SelfIssuedAuthority,
            (_, false) => Place::Authority,
        };
        state.next(&link.judged.extensions.policies, kind).map_err(|broken| (place, broken))?;
    }
    Ok(())
}

/// A usage counts when every CA that limits usages allows it; at least one must, and the one that is asked for.
fn check_usages(path: &[Link<'_, '_>], usage: Option<Usage>) -> Result<(), (usize, Broken)> {
    let wanted = match usage {
        None => None,
        Some(Usage::Client) => Some(oid::CLIENT_AUTH),
        Some(Usage::Server) => Some(oid::SERVER_AUTH),
    };
    let usages = path[0].judged.extensions.extended_key_usage.as_deref().unwrap_or_default();
    let mut left: Vec<&[u8]> = usages.iter().copied().filter(|usage| wanted.is_none_or(|one| one == *usage)).collect();
    if left.is_empty() {
        return Err((0, PathRule::ExtendedKeyUsage.because("it is not for the usage in question")));
    }
    for (place, link) in path.iter().enumerate().skip(1) {
        if let Some(allowed) = &link.judged.extensions.extended_key_usage {
            left.retain(|usage| allowed.contains(usage) || allowed.contains(&ANY_USAGE));
        }
        if left.is_empty() {
            return Err((place, PathRule::ExtendedKeyUsage.because("a CA may not certify for it")));
        }
    }
    Ok(())
}

/// The name that was asked for is one of the certificate's. Common names are no names (RFC 9525, 2).
fn check_peer(leaf: Link<'_, '_>, wanted: Option<&str>) -> Result<(), (usize, Broken)> {
    let names = leaf.judged.extensions.alternatives.as_deref().unwrap_or_default();
    match wanted {
        Some(wanted) if !names.iter().any(|name| is_for(*name, wanted)) => {
            Err((0, PathRule::NameMismatch.because("no subjectAltName is the name in question")))
        }
        Some(_) | None => Ok(()),
    }
}

/// RFC 9525, 6: a wildcard stands for one label.
fn is_for(name: GeneralName<'_>, wanted: &str) -> bool {
    match name {
        GeneralName::Dns(dns) => match dns.strip_prefix('*') {
            Some(parent) => wanted.find('.').is_some_and(|dot| dot > 0 && wanted[dot..].eq_ignore_ascii_case(parent)),
            None => dns.eq_ignore_ascii_case(wanted),
        },
        GeneralName::Ip(bytes) => address_text(bytes).is_some_and(|address| wanted.parse().ok() == Some(address)),
        GeneralName::Other
        | GeneralName::Email(_)
        | GeneralName::X400
        | GeneralName::Directory(_)
        | GeneralName::Edi
        | GeneralName::Uri(_)
        | GeneralName::Registered => false,
    }
}

fn address_text(bytes: &[u8]) -> Option<std::net::IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from)).ok()
}

/// From the anchor down: a revoked CA is named before what it issued.
fn check_status(
    path: &[Link<'_, '_>],
    lists: &[List<'_>],
    question: &PathQuestion<'_>,
    signatures: &mut u32,
) -> Result<(), (usize, Broken)> {
    if lists.is_empty() {
        return Ok(());
    }
    for place in (0..path.len() - 1).rev() {
        let (link, above) = (path[place], path[place + 1]);
        let issuer = ListIssuer {
            subject: above.examined.certificate.tbs.subject,
            key: above.judged.key,
            extensions: &above.judged.extensions,
        };
        let about = About {
            certificate: &link.examined.certificate,
            points: &link.judged.extensions.distribution_points,
            is_authority: place > 0,
        };
        revocation::check(lists, about, issuer, question.at, signatures).map_err(|broken| (place, broken))?;
    }
    Ok(())
}
