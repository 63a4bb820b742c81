//! The names under which a mandate is refused when it is presented. Why a payment does not fit one is in
//! [`Refusal`](crate::kernel::refusal::Refusal).

/// Why a text is no mandate of this owner: one name a rule, in order of precedence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum MandateRefusal {
    #[error("the mandate is longer than 16 KiB")]
    TooLong,
    #[error("the mandate is not a signed token followed by disclosures, each ended by ~")]
    Form,
    #[error("the mandate ends with a key binding: it is given to the bank as its owner signed it")]
    KeyBinding,
    #[error("a part of the mandate is not base64url without padding")]
    Base64,
    #[error("the mandate's header is not a JSON object")]
    Header,
    #[error("a key of the mandate's header, payload or disclosures is there twice")]
    DuplicateKey,
    #[error("a number of the mandate has an exponent or more than 15 digits")]
    Number,
    #[error("the mandate's header has crit: nothing is critical here")]
    Critical,
    #[error("the mandate's alg is not ES256")]
    Algorithm,
    #[error("the mandate's header says more than alg, kid and typ")]
    HeaderUnknown,
    #[error("the mandate's typ is not payment-mandate+sd-jwt")]
    Typ,
    #[error("the mandate's kid is no key of its owner")]
    KeyUnknown,
    #[error("the mandate's signature is not by the key that it names")]
    Signature,
    #[error("the mandate's payload is not a JSON object")]
    Payload,
    #[error("the mandate's _sd_alg is not sha-256")]
    DigestAlgorithm,
    #[error("a disclosure is not a JSON array of a salt, a name and a value, or of a salt and a value")]
    DisclosureMalformed,
    #[error("the mandate has more than 64 disclosures")]
    DisclosuresTooMany,
    #[error("a disclosure is there twice")]
    DisclosureRepeated,
    #[error("a digest is there twice")]
    DigestRepeated,
    #[error("a disclosure belongs to no digest of the mandate")]
    DisclosureUnused,
    #[error("a part of the mandate is hidden: each digest needs its disclosure")]
    Hidden,
    #[error("the mandate's claims are not those of an open payment mandate")]
    Claims,
    #[error("the mandate's vct is not mandate.payment.open.1")]
    Vct,
    #[error("the mandate's cnf names no key: it takes one jwk of P-256 or P-384, or one kid")]
    Confirmation,
    #[error("the mandate's payment_instrument is no account")]
    Instrument,
    #[error("the mandate lives longer than 400 days, or ends before it begins")]
    Lifetime,
    #[error("the mandate has a constraint of a type that this bank does not know")]
    ConstraintUnknown,
    #[error("the mandate has a constraint twice")]
    ConstraintRepeated,
    #[error("a constraint's members are not those of its type")]
    ConstraintMalformed,
    #[error("a constraint's amount is not positive, too large, or its range is empty")]
    ConstraintAmount,
    #[error("a constraint's currency is unknown, or not that of the others")]
    ConstraintCurrency,
    #[error("the mandate limits neither the amount of a payment nor their sum")]
    NoCeiling,
    #[error("two readers of SD-JWT read different claims")]
    ReadTwoWays,
    #[error("the mandate is of another owner")]
    AnotherOwner,
    #[error("the mandate was made in the future: a clock is ahead")]
    FromTheFuture,
    #[error("the mandate has ended")]
    Expired,
}

impl MandateRefusal {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooLong => "mandate_too_long",
            Self::Form => "mandate_malformed",
            Self::KeyBinding => "mandate_key_binding",
            Self::Base64 => "mandate_base64",
            Self::Header => "mandate_header_malformed",
            Self::DuplicateKey => "mandate_duplicate_key",
            Self::Number => "mandate_number",
            Self::Critical => "mandate_critical",
            Self::Algorithm => "mandate_algorithm",
            Self::HeaderUnknown => "mandate_header_unknown",
            Self::Typ => "mandate_type",
            Self::KeyUnknown => "mandate_key_unknown",
            Self::Signature => "mandate_signature_invalid",
            Self::Payload => "mandate_payload_malformed",
            Self::DigestAlgorithm => "mandate_digest_algorithm",
            Self::DisclosureMalformed => "mandate_disclosure_malformed",
            Self::DisclosuresTooMany => "mandate_disclosures_too_many",
            Self::DisclosureRepeated => "mandate_disclosure_repeated",
            Self::DigestRepeated => "mandate_digest_repeated",
            Self::DisclosureUnused => "mandate_disclosure_unused",
            Self::Hidden => "mandate_hidden",
            Self::Claims => "mandate_claims",
            Self::Vct => "mandate_vct",
            Self::Confirmation => "mandate_confirmation",
            Self::Instrument => "mandate_instrument",
            Self::Lifetime => "mandate_lifetime",
            Self::ConstraintUnknown => "mandate_constraint_unknown",
            Self::ConstraintRepeated => "mandate_constraint_repeated",
            Self::ConstraintMalformed => "mandate_constraint_malformed",
            Self::ConstraintAmount => "mandate_constraint_amount",
            Self::ConstraintCurrency => "mandate_constraint_currency",
            Self::NoCeiling => "mandate_without_ceiling",
            Self::ReadTwoWays => "mandate_read_two_ways",
            Self::AnotherOwner => "mandate_another_owner",
            Self::FromTheFuture => "mandate_from_the_future",
            Self::Expired => "mandate_expired",
        }
    }
}
