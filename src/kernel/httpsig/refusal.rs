//! The names under which a request's signature is refused.

macro_rules! refusals {
    ($($variant:ident = $name:literal, $sentence:literal;)*) => {
        /// Why a request is not one that its agent signed for this bank and this moment: one name a rule.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum SignatureRefusal {
            $(#[doc = $sentence] $variant,)*
        }

        impl SignatureRefusal {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// One sentence for a reader.
            pub fn sentence(self) -> &'static str {
                match self {
                    $(Self::$variant => $sentence,)*
                }
            }
        }
    };
}

refusals! {
    HeaderDuplicate = "signature_header_duplicate", "a header that is signed, or that carries the signature, is there twice";
    HeaderNotAscii = "signature_header_not_ascii", "a header that is signed, or that carries the signature, is not printable ASCII";
    Missing = "signature_missing", "the request has no signature with the tag countersign-request";
    Malformed = "signature_malformed", "Signature-Input or Signature is not a dictionary of structured fields";
    Ambiguous = "signature_ambiguous", "the request has two signatures with the tag countersign-request";
    ParameterUnknown = "signature_parameter_unknown", "the signature has a parameter other than created, expires, nonce, keyid, alg and tag";
    ParameterMissing = "signature_parameter_missing", "the signature does not say created, expires, nonce and keyid";
    ParameterMalformed = "signature_parameter_malformed", "a parameter of the signature is there twice or of the wrong type";
    ComponentUnknown = "signature_component_unknown", "the signature covers something that is not part of what is signed here";
    ComponentMissing = "signature_component_missing", "the request lacks a header that is signed, or the signature does not cover it";
    ComponentOrder = "signature_component_order", "the signature covers the right components in another order, or one of them twice";
    LifetimeTooLong = "signature_lifetime_too_long", "the signature lives longer than the bank accepts, or ends before it begins";
    FromTheFuture = "signature_from_the_future", "the signature was created in the future: the agent host's clock is ahead";
    Expired = "signature_expired", "the signature has expired";
    NonceLength = "signature_nonce_length", "the nonce is shorter than 22 or longer than 88 characters";
    KeyMismatch = "signature_key_mismatch", "keyid is not the key of this connection's certificates";
    Algorithm = "signature_algorithm", "alg is not the algorithm of this connection's key";
    DigestMalformed = "digest_malformed", "Content-Digest is not a dictionary of digests";
    DigestAlgorithm = "digest_algorithm", "Content-Digest has no sha-256";
    DigestMismatch = "digest_mismatch", "Content-Digest is not the digest of the body";
    Invalid = "signature_invalid", "the signature is not by this connection's key over this request";
}

impl std::fmt::Display for SignatureRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.sentence())
    }
}
