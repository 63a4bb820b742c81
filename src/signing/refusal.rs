//! The names under which the signing service refuses.

use crate::ops::failure::{Failure, Kind};

macro_rules! refusals {
    ($($variant:ident = $kind:ident $name:literal, $message:literal, $next:literal;)*) => {
        /// Why a program gets no signature: one name a rule.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum SigningRefusal {
            $(#[doc = $message] $variant,)*
        }

        impl SigningRefusal {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// As it is answered.
            pub fn failure(self) -> Failure {
                match self { $(Self::$variant => Failure::new(Kind::$kind, $name, $message, $next),)* }
            }
        }
    };
}

refusals! {
    CallerUnknown = Refused "caller_unknown", "no key signs for this user", "ask the daemon's people to name it among the callers of a [[signing.key]]";
    KeyNotPermitted = Refused "key_not_permitted", "there is no such key, or it does not sign for this user", "see GET /v1/keys for the keys that do";
    KindNotPermitted = Refused "kind_not_permitted", "the key does not sign this kind of item", "use a key with this kind: GET /v1/keys shows them";
    KeyMissing = Busy "key_missing", "the token has no active version of the key", "make one with `countersign key generate --purpose external --name NAME`";
    KeyRetired = Refused "signing_key_retired", "the key of the first request has been retired before it signed, or is destroyed", "ask with another idempotency key";
    RateExceeded = Busy "signing_rate_exceeded", "this user asks for more signatures by this key than it may", "ask less often; [[signing.key]] per_second and burst say how often";
    TooManyItems = Usage "too_many_items", "there are more items than one call may have, or the burst of the key lets through, or none", "send several calls";
    BatchMixed = Usage "batch_mixed", "the items of a batch are of one kind", "send a batch for each kind";
    PurposeTooLong = Usage "purpose_too_long", "purpose is empty, longer than 200 characters, or has control characters", "say it in fewer words";
    PurposeNotPermitted = Refused "purpose_not_permitted", "the key does not sign for this purpose, or none is named", "say one of [[signing.key]] purposes: GET /v1/keys shows them";
    NotCanonical = Usage "document_not_canonical", "a number is no integer within ±(2^53 − 1), or it is nested deeper than 32: it has no canonical form (RFC 8785)", "write such numbers as strings";
    DocumentNotAnObject = Usage "document_not_an_object", "a document is a JSON object", "wrap it in an object";
    ContentTooLong = Usage "content_too_long", "what is signed at once has at most 64 KiB", "sign the digest of it, as a file";
    FileMalformed = Usage "file_malformed", "the name of a file has 1 to 255 bytes and no control characters", "leave the name out";
    DigestMalformed = Usage "digest_malformed", "give digest (hexadecimal, of the key's hash) for an ECDSA key, or message (base64) for an Ed25519 key", "see alg at GET /v1/keys: ES256 takes SHA-256, ES384 SHA-384";
    JwtClaimReserved = Refused "jwt_claim_reserved", "iat, exp and nbf are the service's to say", "leave them out; lifetime_s says how long it lives";
    JwtIssuer = Refused "jwt_issuer", "iss is not the issuer of this key", "leave iss out";
    JwtAudience = Refused "jwt_audience", "aud is not one of the key's audiences", "name one of [signing.key.jwt] audiences";
    JwtSubject = Refused "jwt_subject", "sub is not one of the key's subjects", "name one of [signing.key.jwt] subjects";
    JwtLifetime = Refused "jwt_lifetime", "the token would live longer than this key's may, or not at all", "ask for a shorter lifetime_s";
    RequestTag = Refused "request_tag", "tag is not one of the key's tags", "name one of [signing.key.request] tags";
    RequestLifetime = Refused "request_lifetime", "the signature would live longer than this key's may, or not at all", "ask for a shorter expires_in_s";
    RequestLabel = Usage "request_label", "a label is a lower-case word", "leave the label out";
    HsmUnavailable = Busy "hsm_unavailable", "the HSM is down; nothing was recorded and nothing was signed", "try again; the daemon brings it back by itself";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_each_says_what_to_do() {
        let names: std::collections::BTreeSet<_> = SigningRefusal::ALL.iter().map(|refusal| refusal.name()).collect();
        assert_eq!(names.len(), SigningRefusal::ALL.len());
        for refusal in SigningRefusal::ALL {
            let failure = refusal.failure();
            assert_eq!(failure.name, refusal.name());
            assert!(!failure.message.is_empty() && !failure.next_step.is_empty());
        }
    }
}
