//! The names under which a token is refused.

/// Why a token is not one of the bank's for here and now: one name a rule, in order of precedence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, thiserror::Error)]
pub enum TokenRefusal {
    #[error("the request has no access token")]
    Missing,
    #[error("the request has no access token: its Authorization is of another scheme than Bearer")]
    Scheme,
    #[error("the token is longer than 8 KiB")]
    TooLong,
    #[error("the token is not one word of three parts with dots between them")]
    Parts,
    #[error("a part of the token is not base64url without padding")]
    Base64,
    #[error("the token's header is not a JSON object")]
    Header,
    #[error("a key of the token's header or payload is there twice")]
    DuplicateKey,
    #[error("the token's header has crit: nothing is critical here")]
    Critical,
    #[error("the token's alg is not ES256")]
    Algorithm,
    #[error("the token's header says more than alg, kid and typ")]
    HeaderUnknown,
    #[error("the token's typ is not what is asked for here")]
    Typ,
    #[error("the token's kid is no key whose tokens the bank takes now")]
    KeyUnknown,
    #[error("the token's signature is not by the key that it names")]
    Signature,
    #[error("the token's payload is not a JSON object")]
    Payload,
    #[error("the token's claims are not those of its type, in canonical form")]
    Claims,
    #[error("the token lives longer than its type may, or ends before it begins")]
    Lifetime,
    #[error("the token was made in the future: a clock is ahead")]
    FromTheFuture,
    #[error("the token has expired")]
    Expired,
    #[error("the token is of another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token is bound to another certificate than that of this connection")]
    AnotherCertificate,
    #[error("the token was issued to another agent than that of this connection")]
    AnotherAgent,
}

impl TokenRefusal {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "token_missing",
            Self::Scheme => "token_scheme",
            Self::TooLong => "token_too_long",
            Self::Parts => "token_malformed",
            Self::Base64 => "token_base64",
            Self::Header => "token_header_malformed",
            Self::DuplicateKey => "token_duplicate_key",
            Self::Critical => "token_critical",
            Self::Algorithm => "token_algorithm",
            Self::HeaderUnknown => "token_header_unknown",
            Self::Typ => "token_type",
            Self::KeyUnknown => "token_key_unknown",
            Self::Signature => "token_signature_invalid",
            Self::Payload => "token_payload_malformed",
            Self::Claims => "token_claims",
            Self::Lifetime => "token_lifetime",
            Self::FromTheFuture => "token_from_the_future",
            Self::Expired => "token_expired",
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::AnotherCertificate => "token_another_certificate",
            Self::AnotherAgent => "token_another_agent",
        }
    }
}
