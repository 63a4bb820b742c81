//! Looks for paths from the certificate in question to a trust anchor, depth first, within a budget.

use std::collections::{BTreeMap, BTreeSet};

use super::constraint::COMPARISONS_MAX;
use super::examine::{Examined, Judged, Role};
use super::revocation::List;
use super::rule::{Broken, PathRefusal, PathRule};
use super::validate::Budget;
use super::{CERTIFICATES_MAX, INTERMEDIATES_MAX, LISTS_MAX, PathQuestion, ValidPath, validate};
use crate::kernel::types::Sha256;

/// Signatures of one question: webpki allows itself 100; the anchors' own come on top.
const SIGNATURES_MAX: u32 = 200;
/// Certificates that are tried as an issuer, some of them again and again.
const STEPS_MAX: u32 = 20_000;
/// Whole paths that are validated.
const PATHS_MAX: u32 = 32;

/// Index of a certificate in the builder.
type Index = usize;

pub(super) struct Builder<'a> {
    question: &'a PathQuestion<'a>,
    /// The leaf, the anchors, the others. Each once.
    certificates: Vec<Examined<'a>>,
    anchors: BTreeSet<Index>,
    by_subject: BTreeMap<&'a [u8], Vec<Index>>,
    lists: Vec<List<'a>>,
    /// Something among the others is no certificate: said when nothing better explains the refusal.
    unreadable: Option<Broken>,
    judged: BTreeMap<(Index, Role), Result<Judged<'a>, Broken>>,
    /// A certificate, a key (SubjectPublicKeyInfo), and whether it is signed by that key.
    signed: BTreeMap<(Index, &'a [u8]), bool>,
    budget: Budget,
    steps: u32,
    paths: u32,
    furthest: Option<Furthest>,
}

/// The refusal of the attempt that came furthest.
struct Furthest {
    /// Whole paths before others, longer ones before shorter, later stages before earlier.
    rank: (bool, usize, u8),
    refusal: PathRefusal,
}

/// The search ends: with a path, or because there is no work left to be had.
enum Ended {
    Valid(ValidPath),
    Exceeded(&'static str),
}

impl<'a> Builder<'a> {
    /// # Errors
    /// What is wrong with the question: too much, a leaf or list that cannot be read, no readable anchor.
    pub(super) fn new(question: &'a PathQuestion<'a>) -> Result<Self, PathRefusal> {
        let refused = |Broken { rule, why }| PathRefusal { rule, why, at_fault: None, path: Vec::new() };
        if question.others.len() + question.anchors.len() >= CERTIFICATES_MAX || question.lists.len() > LISTS_MAX {
            return Err(refused(PathRule::TooManyCertificates.because("1000 certificates and 64 lists are looked at")));
        }
        let leaf = Examined::read(question.leaf)
            .map_err(|broken| PathRefusal { at_fault: Some(Sha256::of(&[question.leaf])), ..refused(broken) })?;
        let mut builder = Self {
            question,
            certificates: vec![leaf],
            anchors: BTreeSet::new(),
            by_subject: BTreeMap::new(),
            lists: question.lists.iter().map(|list| List::read(list)).collect::<Result<_, _>>().map_err(refused)?,
            unreadable: None,
            judged: BTreeMap::new(),
            signed: BTreeMap::new(),
            budget: Budget { signatures: SIGNATURES_MAX, comparisons: COMPARISONS_MAX },
            steps: STEPS_MAX,
            paths: PATHS_MAX,
            furthest: None,
        };
        let mut seen = BTreeSet::new();
        for bytes in question.anchors {
            builder.add(bytes, Role::Anchor, &mut seen);
        }
        builder.anchors = (1..builder.certificates.len()).collect();
        if builder.anchors.is_empty() {
            let why = builder.unreadable.map_or("none was given", |broken| broken.why);
            return Err(refused(PathRule::TrustAnchorMalformed.because(why)));
        }
        for bytes in question.others {
            builder.add(bytes, Role::Authority, &mut seen);
        }
        Ok(builder)
    }

    fn add(&mut self, bytes: &'a [u8], role: Role, seen: &mut BTreeSet<Sha256>) {
        match Examined::read(bytes) {
            // A root that nobody trusts leads back to itself alone.
            Ok(examined) if role == Role::Authority && examined.names_itself() => {}
            Ok(examined) if seen.insert(examined.fingerprint) => {
                let index = self.certificates.len();
                self.by_subject.entry(examined.certificate.tbs.subject).or_default().push(index);
                self.certificates.push(examined);
            }
            Ok(_) => {}
            Err(broken) => self.unreadable = self.unreadable.or(Some(broken)),
        }
    }

    /// Searches.
    ///
    /// # Errors
    /// The refusal of the path that came furthest.
    pub(super) fn run(mut self) -> Result<ValidPath, PathRefusal> {
        const LEAF: Index = 0;
        if let Err(broken) = self.judged(LEAF, Role::EndEntity) {
            return Err(self.refusal(&[LEAF], LEAF, broken));
        }
        match self.extend(&mut vec![LEAF]) {
            Err(Ended::Valid(path)) => return Ok(path),
            Err(Ended::Exceeded(why)) => return Err(self.refusal(&[LEAF], LEAF, PathRule::WorkExceeded.because(why))),
            Ok(()) => {}
        }
        let furthest = self.furthest.expect("a search without a path notes why at its first step").refusal;
        Err(match self.unreadable {
            Some(Broken { rule, why }) if furthest.rule == PathRule::IssuerUnknown => {
                PathRefusal { rule, why, at_fault: None, ..furthest }
            }
            Some(_) | None => furthest,
        })
    }

    /// Tries every certificate that may have issued the last one of the path.
    fn extend(&mut self, path: &mut Vec<Index>) -> Result<(), Ended> {
        let subject = *path.last().expect("a path begins with the leaf");
        let issuer = self.certificates[subject].certificate.tbs.issuer;
        let candidates = self.by_subject.get(issuer).cloned().unwrap_or_default();
        if candidates.is_empty() {
            self.note(path, subject, 0, PathRule::IssuerUnknown.because("its issuer is not among the certificates"));
        }
        for candidate in candidates {
            self.steps = self.steps.checked_sub(1).ok_or(Ended::Exceeded("too many ways to go"))?;
            if self.is_on_path(path, candidate) {
                self.note(path, subject, 0, PathRule::IssuerUnknown.because("its issuers lead back to each other"));
                continue;
            }
            if !self.names_key_of(subject, candidate) {
                let broken = PathRule::KeyIdentifierMismatch.because("authority and subject key identifier differ");
                self.note(path, subject, 1, broken);
                continue;
            }
            let is_anchor = self.anchors.contains(&candidate);
            let role = if is_anchor { Role::Anchor } else { Role::Authority };
            if let Err(broken) = self.judged(candidate, role) {
                self.note(path, candidate, 2, broken);
                continue;
            }
            if !self.is_signed(subject, candidate)? {
                self.note(path, subject, 3, PathRule::SignatureInvalid.because("it is not by the issuer's key"));
                continue;
            }
            path.push(candidate);
            if is_anchor {
                self.finish(path)?;
            } else if path.len() > INTERMEDIATES_MAX + 1 {
                self.note(path, candidate, 0, PathRule::DepthExceeded.because("16 CAs below the anchor are enough"));
            } else {
                self.extend(path)?;
            }
            path.pop();
        }
        Ok(())
    }

    /// A whole path: valid, or not.
    fn finish(&mut self, path: &[Index]) -> Result<(), Ended> {
        self.paths = self.paths.checked_sub(1).ok_or(Ended::Exceeded("too many whole paths"))?;
        let links: Vec<validate::Link<'_, '_>> = path
            .iter()
            .map(|index| {
                let role = match (*index, self.anchors.contains(index)) {
                    (0, _) => Role::EndEntity,
                    (_, false) => Role::Authority,
                    (_, true) => Role::Anchor,
                };
                let judged = self.judged.get(&(*index, role)).and_then(|judged| judged.as_ref().ok());
                let judged = judged.expect("only what was judged well is put on a path");
                validate::Link { examined: &self.certificates[*index], judged }
            })
            .collect();
        let mut budget = self.budget;
        let verdict = validate::validate(&links, &self.lists, self.question, &mut budget);
        self.budget = budget;
        match verdict {
            Ok(()) => {
                let fingerprints = links.iter().map(|link| link.examined.fingerprint).collect();
                Err(Ended::Valid(ValidPath { fingerprints }))
            }
            Err((place, broken)) => {
                self.note(path, path[place], u8::MAX, broken);
                Ok(())
            }
        }
    }

    /// The same name and key are on the path already: another certificate of that CA leads nowhere new.
    fn is_on_path(&self, path: &[Index], candidate: Index) -> bool {
        let entity = |index: Index| {
            let tbs = &self.certificates[index].certificate.tbs;
            (tbs.subject, tbs.spki)
        };
        path.iter().any(|index| entity(*index) == entity(candidate))
    }

    /// What the certificate says of its issuer's key fits the candidate.
    fn names_key_of(&self, subject: Index, candidate: Index) -> bool {
        let role = |index| if index == 0 { Role::EndEntity } else { Role::Authority };
        let Some(Ok(judged)) = self.judged.get(&(subject, role(subject))) else {
            return false;
        };
        let Some(authority) = judged.extensions.authority_key else {
            return false;
        };
        let issuer = &self.certificates[candidate].certificate.tbs;
        let named = authority.issuer_and_serial;
        // A CA without an identifier is refused by that name.
        issuer.subject_key_identifier().is_none_or(|own| authority.identifier == Some(own))
            && named.is_none_or(|named| named == (issuer.issuer, issuer.serial))
    }

    fn judged(&mut self, index: Index, role: Role) -> Result<(), Broken> {
        let (certificates, at) = (&self.certificates, self.question.at);
        let judged = self.judged.entry((index, role)).or_insert_with(|| certificates[index].judge(role, at));
        judged.as_ref().map(|_| ()).map_err(|broken| *broken)
    }

    fn is_signed(&mut self, subject: Index, issuer: Index) -> Result<bool, Ended> {
        let key = self.certificates[issuer].certificate.tbs.spki;
        if let Some(known) = self.signed.get(&(subject, key)) {
            return Ok(*known);
        }
        let left = self.budget.signatures.checked_sub(1);
        self.budget.signatures = left.ok_or(Ended::Exceeded("too many signatures"))?;
        let find = |index, roles: [Role; 2]| {
            roles.into_iter().find_map(|role| self.judged.get(&(index, role)).and_then(|judged| judged.as_ref().ok()))
        };
        let subject_judged = find(subject, [Role::EndEntity, Role::Authority]);
        let issuer_judged = find(issuer, [Role::Authority, Role::Anchor]);
        let signed = subject_judged
            .zip(issuer_judged)
            .is_some_and(|(one, two)| self.certificates[subject].is_signed_by(one.scheme, two.key));
        self.signed.insert((subject, key), signed);
        Ok(signed)
    }

    /// Keeps the refusal of the attempt that came furthest; of equals, the first.
    fn note(&mut self, path: &[Index], at_fault: Index, stage: u8, broken: Broken) {
        let rank = (stage == u8::MAX, path.len(), stage);
        if self.furthest.as_ref().is_none_or(|furthest| rank > furthest.rank) {
            self.furthest = Some(Furthest { rank, refusal: self.refusal(path, at_fault, broken) });
        }
    }

    fn refusal(&self, path: &[Index], at_fault: Index, broken: Broken) -> PathRefusal {
        PathRefusal {
            rule: broken.rule,
            why: broken.why,
            at_fault: Some(self.certificates[at_fault].fingerprint),
            path: path.iter().map(|index| self.certificates[*index].fingerprint).collect(),
        }
    }
}
