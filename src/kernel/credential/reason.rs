//! Reasons of a revocation, as lists and responders tell them (RFC 5280, 5.3.1).

/// Why a certificate was revoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RevocationReason {
    Unspecified,
    KeyCompromise,
    CaCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
    CertificateHold,
    RemoveFromCrl,
    PrivilegeWithdrawn,
    AaCompromise,
}

impl RevocationReason {
    pub const ALL: [Self; 10] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::CertificateHold,
        Self::RemoveFromCrl,
        Self::PrivilegeWithdrawn,
        Self::AaCompromise,
    ];

    /// The name that operators write.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key-compromise",
            Self::CaCompromise => "ca-compromise",
            Self::AffiliationChanged => "affiliation-changed",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation-of-operation",
            Self::CertificateHold => "certificate-hold",
            Self::RemoveFromCrl => "remove-from-crl",
            Self::PrivilegeWithdrawn => "privilege-withdrawn",
            Self::AaCompromise => "aa-compromise",
        }
    }

    /// The `CRLReason`; 7 was never given.
    pub fn code(self) -> u8 {
        match self {
            Self::Unspecified => 0,
            Self::KeyCompromise => 1,
            Self::CaCompromise => 2,
            Self::AffiliationChanged => 3,
            Self::Superseded => 4,
            Self::CessationOfOperation => 5,
            Self::CertificateHold => 6,
            Self::RemoveFromCrl => 8,
            Self::PrivilegeWithdrawn => 9,
            Self::AaCompromise => 10,
        }
    }

    /// The reason that a text names, in our spelling or the standard's. Any other text is a note and has no code.
    pub fn named(text: &str) -> Option<Self> {
        let plain: String = text.chars().filter(char::is_ascii_alphabetic).collect();
        let is_name = text.chars().all(|letter| letter.is_ascii_alphabetic() || letter == '-');
        Self::ALL.into_iter().find(|reason| is_name && reason.name().replace('-', "").eq_ignore_ascii_case(&plain))
    }

    /// What is written: RFC 5280 asks to leave `unspecified` out.
    pub fn written(text: &str) -> Option<u8> {
        Self::named(text).filter(|reason| *reason != Self::Unspecified).map(Self::code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_known_in_both_spellings_and_a_note_is_none() {
        for reason in RevocationReason::ALL {
            assert_eq!(RevocationReason::named(reason.name()), Some(reason));
        }
        for (text, code) in [("keyCompromise", Some(1)), ("cACompromise", Some(2)), ("privilegeWithdrawn", Some(9))] {
            assert_eq!(RevocationReason::named(text).map(RevocationReason::code), code);
        }
        for note in ["", "left the project", "key compromise", "1", "unspecified?"] {
            assert_eq!(RevocationReason::named(note), None, "{note}");
        }
        assert_eq!(RevocationReason::written("unspecified"), None);
    }
}
