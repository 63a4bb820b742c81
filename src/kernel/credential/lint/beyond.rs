//! What a profile does not say and a key signs nothing without: random serial numbers, present time, well-formed
//! names, sound keys that belong to what they are certified for.

use std::collections::BTreeSet;

use super::LintRefusal;
use crate::kernel::credential::certificate::Tbs;
use crate::kernel::credential::der::{self, NotDer, Reader};
use crate::kernel::credential::profile::{BACKDATE_MS, IssuedBy, NameAttribute, Profile, ProfileRule, key_identifier};
use crate::kernel::sign::{Purpose, public_key_is_sound};
use crate::kernel::types::UnixMillis;

/// `ub-common-name` and `ub-organization-name` (RFC 5280, appendix A.1), in characters.
const NAME_CHARACTERS_MAX: usize = 64;
/// Our serial numbers are 16 random bytes. An inspector cannot measure randomness; what it can see is a counter, a clock
/// or a buffer that nobody filled. Sixteen random bytes with fewer than six different values come once in 10^14.
const SERIAL_BYTES_MIN: usize = 16;
const SERIAL_VALUES_MIN: usize = 6;
/// Clocks of one machine do not differ; one that was set back in between may.
const AHEAD_MS: i64 = BACKDATE_MS;

/// The rules beyond the profile that a TBSCertificate has to pass by itself.
///
/// How far back it is dated is bounded by its life, which the profile bounds, and its end, which is not past: bytes that
/// were journalled before a crash are signed after it, however long that took.
pub(super) fn check(profile: Profile, tbs: &Tbs<'_>, now: UnixMillis) -> Result<(), LintRefusal> {
    let values: BTreeSet<u8> = tbs.serial.iter().copied().collect();
    if tbs.serial.len() < SERIAL_BYTES_MIN || values.len() < SERIAL_VALUES_MIN {
        return Err(LintRefusal::SerialPredictable);
    }
    if tbs.not_before.at > now.plus_ms(AHEAD_MS) {
        return Err(LintRefusal::DatedAhead);
    }
    if tbs.not_after.at <= now {
        return Err(LintRefusal::Ended);
    }
    let issuer = match profile.table().issuer {
        IssuedBy::Itself | IssuedBy::Root => Profile::Root,
        IssuedBy::Issuing => Profile::Issuing,
    };
    let named = |name: &[u8], by: Profile| has_attributes(name, &by.table().subject) == Ok(true);
    if !named(tbs.subject, profile) || !named(tbs.issuer, issuer) {
        return Err(LintRefusal::NameForm);
    }
    if !public_key_is_sound(tbs.spki) {
        return Err(LintRefusal::KeyUnsound);
    }
    let own = key_identifier(tbs.key());
    // However strangers make theirs: ours are made in one way.
    if tbs.subject_key_identifier() != Some(&own) {
        return Err(LintRefusal::Profile(ProfileRule::SubjectKeyIdentifier));
    }
    if profile.table().issuer != IssuedBy::Itself && tbs.authority_key_identifier() == Some(&own) {
        return Err(LintRefusal::IssuersOwnKey);
    }
    Ok(())
}

/// `of_token`: what the signing key's token has the subject's key for, if it has it.
pub(super) fn check_subject_key(profile: Profile, of_token: Option<Purpose>) -> Result<(), LintRefusal> {
    // Agents have tokens of their hosts, operators their own.
    let elsewhere = profile.is_agent() || profile.purpose() == Purpose::Operator;
    // Checkpoints and cosignatures are told apart by their messages and share a usage.
    let usage = profile.private_usage();
    let fits = |purpose: Purpose| {
        let other = Profile::of_purpose(purpose);
        purpose == profile.purpose() || other.is_some_and(|other| usage.is_some() && other.private_usage() == usage)
    };
    match of_token {
        Some(purpose) if fits(purpose) => Ok(()),
        Some(_) => Err(LintRefusal::KeyOfAnotherPurpose),
        None if elsewhere => Ok(()),
        None => Err(LintRefusal::KeyNotOfToken),
    }
}

/// True when a Name consists of these attributes, one each, in this order, each a sound text.
fn has_attributes(name: &[u8], attributes: &[NameAttribute]) -> Result<bool, NotDer> {
    let mut parts = Reader::whole_sequence(name)?;
    for attribute in attributes {
        if parts.is_empty() {
            return Ok(false);
        }
        let mut set = Reader::new(parts.element(der::SET)?.content);
        let mut pair = set.sequence()?;
        set.finish()?;
        let oid = pair.oid()?;
        let value = pair.any()?;
        pair.finish()?;
        if oid != attribute.oid() || !is_sound_text(value.tag, value.content) {
            return Ok(false);
        }
    }
    Ok(parts.is_empty())
}

/// UTF8String or PrintableString (RFC 5280, 4.1.2.4) of 1 to 64 characters, none of them a control character, no space
/// at either end.
fn is_sound_text(tag: u8, content: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(content) else {
        return false;
    };
    let characters = match tag {
        der::UTF8_STRING => text.chars().all(|character| !character.is_control()),
        der::PRINTABLE_STRING => {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte))
        }
        _ => false,
    };
    characters && (1..=NAME_CHARACTERS_MAX).contains(&text.chars().count()) && text.trim() == text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::credential::lint::{lint_subject_key, lint_tbs_certificate};
    use crate::kernel::credential::oid;
    use crate::kernel::credential::testkit::*;

    fn part(oid: &[u8], tag: u8, text: &[u8]) -> Vec<u8> {
        der::element(der::SET, &der::sequence(&[&der::element(der::OID, oid), &der::element(tag, text)]))
    }

    #[test]
    fn what_a_profile_does_not_say_is_refused_by_name() {
        type Bend = fn(&mut Draft);
        let table: &[(&str, Bend, LintRefusal)] = &[
            ("eight bytes", |b| b.serial = vec![1, 2, 3, 4, 5, 6, 7, 8], LintRefusal::SerialPredictable),
            ("a counter", |b| b.serial = [&[0x40], &[0; 14][..], &[9]].concat(), LintRefusal::SerialPredictable),
            ("five values", |b| b.serial = [1, 2, 3, 4, 5].repeat(4), LintRefusal::SerialPredictable),
            ("tomorrow", |b| b.not_before = utc_time(NOW.plus_ms(AHEAD_MS + 1000)), LintRefusal::DatedAhead),
            ("yesterday", |b| b.not_after = utc_time(NOW), LintRefusal::Ended),
            ("an empty common name", |b| b.subject = common_name(""), LintRefusal::NameForm),
            ("65 characters", |b| b.subject = common_name(&"ä".repeat(65)), LintRefusal::NameForm),
            ("a line break", |b| b.subject = common_name("a\nb"), LintRefusal::NameForm),
            ("a space at the end", |b| b.subject = common_name("a "), LintRefusal::NameForm),
            ("an organization too", |b| b.subject = name("shopper"), LintRefusal::NameForm),
            ("an issuer without its organization", |b| b.issuer = common_name("bank issuing"), LintRefusal::NameForm),
            (
                "another attribute",
                |b| b.subject = der::sequence(&[&part(&[0x55, 4, 5], der::UTF8_STRING, b"a")]),
                LintRefusal::NameForm,
            ),
            (
                "two at once",
                |b| {
                    let pair =
                        der::sequence(&[&der::element(der::OID, oid::COMMON_NAME), &[der::UTF8_STRING, 1, b'a']]);
                    b.subject = der::sequence(&[&der::element(der::SET, &[pair.as_slice(), &pair].concat())]);
                },
                LintRefusal::NameForm,
            ),
            (
                "half a character",
                |b| b.subject = der::sequence(&[&part(oid::COMMON_NAME, der::UTF8_STRING, &[0xc3])]),
                LintRefusal::NameForm,
            ),
            (
                "an underscore in a PrintableString",
                |b| b.subject = der::sequence(&[&part(oid::COMMON_NAME, der::PRINTABLE_STRING, b"a_b")]),
                LintRefusal::NameForm,
            ),
            (
                "a TeletexString",
                |b| b.subject = der::sequence(&[&part(oid::COMMON_NAME, 0x14, b"a")]),
                LintRefusal::NameForm,
            ),
        ];
        let world = World::new();
        for (what, bend, expected) in table {
            let mut b = World::bind(world.draft_b(), b"S");
            bend(&mut b);
            assert_eq!(lint_tbs_certificate(Purpose::Issuing, &b.tbs(), NOW), Err(*expected), "{what}");
        }
        // The identifier that others make: SHA-256 over the bare key (RFC 7093, 2, method 1).
        let mut foreign = World::bind(world.draft_b(), b"S");
        let (_, key) = crate::kernel::sign::raw_public_key(&foreign.spki).unwrap();
        let identifier = crate::kernel::types::Sha256::of(&[key]).0[..20].to_vec();
        foreign.set(oid::SUBJECT_KEY_IDENTIFIER, der::element(der::OCTET_STRING, &identifier));
        let refused = lint_tbs_certificate(Purpose::Issuing, &foreign.tbs(), NOW);
        assert_eq!(refused, Err(LintRefusal::Profile(ProfileRule::SubjectKeyIdentifier)));

        let mut printable = World::bind(world.draft_b(), b"S");
        printable.subject = der::sequence(&[&part(oid::COMMON_NAME, der::PRINTABLE_STRING, b"a-b")]);
        printable.not_before = utc_time(NOW.plus_ms(AHEAD_MS));
        assert_eq!(lint_tbs_certificate(Purpose::Issuing, &printable.tbs(), NOW), Ok(()));
    }

    #[test]
    fn keys_are_points_of_their_curve_and_not_their_issuers() {
        let world = World::new();
        let mut spki = Key::new().spki();
        *spki.last_mut().unwrap() ^= 1;
        let off = world.bank.draft(Profile::TlsServer, "a", &spki);
        assert_eq!(lint_tbs_certificate(Purpose::Issuing, &off.tbs(), NOW), Err(LintRefusal::KeyUnsound));
        let own = world.bank.draft(Profile::TlsServer, "a", &world.bank.issuing_key.spki());
        assert_eq!(lint_tbs_certificate(Purpose::Issuing, &own.tbs(), NOW), Err(LintRefusal::IssuersOwnKey));
        let root = &world.bank.root_key;
        let under_itself = draft(Profile::Issuing, "a", &root.spki(), (&world.bank.root_name, root));
        assert_eq!(lint_tbs_certificate(Purpose::Root, &under_itself.tbs(), NOW), Err(LintRefusal::IssuersOwnKey));
    }

    #[test]
    fn each_key_of_the_token_is_certified_for_its_purpose_alone() {
        let world = World::new();
        for profile in Profile::ALL {
            let spki = match profile.algorithms() {
                [crate::kernel::sign::Algorithm::Ed25519, ..] => ed25519_spki(),
                _ => Key::new().spki(),
            };
            let (signer, tbs) = match profile {
                Profile::Root => {
                    let party = (world.bank.root_name.as_slice(), &world.bank.root_key);
                    (Purpose::Root, draft(profile, "bank root", &spki, party).tbs())
                }
                Profile::Issuing => (Purpose::Root, world.bank.draft(profile, "a", &spki).tbs()),
                _ => (Purpose::Issuing, World::bind(world.bank.draft(profile, "a", &spki), b"S").tbs()),
            };
            let judged = |of_token: Option<Purpose>| lint_subject_key(signer, &tbs, |_, _| of_token);
            for purpose in Purpose::ALL {
                let logs = [Purpose::Checkpoint, Purpose::Witness];
                let fits =
                    purpose == profile.purpose() || (logs.contains(&purpose) && logs.contains(&profile.purpose()));
                let expected = if fits { Ok(()) } else { Err(LintRefusal::KeyOfAnotherPurpose) };
                assert_eq!(judged(Some(purpose)), expected, "{} over a key of {}", profile.name(), purpose.slug());
            }
            let elsewhere = profile.is_agent() || profile == Profile::Operator;
            let expected = if elsewhere { Ok(()) } else { Err(LintRefusal::KeyNotOfToken) };
            assert_eq!(judged(None), expected, "{}", profile.name());
        }
    }
}
