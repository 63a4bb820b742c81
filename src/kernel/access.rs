//! Access tokens: which agent, on connections with which certificate, may use which tools (RFC 9068, RFC 8705).
//!
//! A token only narrows what the live policy gives, and says nothing that its connection does not say too: whose it is,
//! and by which certificate, must be what the acceptance rule found out about the peer.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::kernel::credential::pair::VerifiedAgent;
use crate::kernel::jwt::{self, Claims, Expected, TokenKey, TokenKind, TokenRefusal, VerifiedToken};
use crate::kernel::types::{KeyId, Sha256, UnixMillis};

/// What an access token claims besides what every token does; `sub` is the agent's SPIFFE ID.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccessClaims {
    /// The same as `sub` (RFC 9068, 2.2).
    pub client_id: String,
    pub cnf: Confirmation,
    pub jti: String,
    pub scope: String,
}

/// The certificate that must be shown with the token (RFC 8705, 3.1).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Confirmation {
    #[serde(rename = "x5t#S256")]
    pub x5t_s256: String,
}

impl Confirmation {
    /// Of a certificate with this SHA-256.
    pub fn of(fingerprint: Sha256) -> Self {
        Self { x5t_s256: URL_SAFE_NO_PAD.encode(fingerprint.0) }
    }
}

/// Tools, as a scope names them (RFC 6749, 3.3).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scope(BTreeSet<String>);

impl Scope {
    pub fn of(tools: impl IntoIterator<Item = String>) -> Self {
        Self(tools.into_iter().collect())
    }

    /// `None`: it is empty, or not names with one space between them.
    pub fn parse(text: &str) -> Option<Self> {
        let is_name =
            |name: &str| !name.is_empty() && name.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
        text.split(' ').all(is_name).then(|| Self::of(text.split(' ').map(str::to_owned)))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn names(&self, tool: &str) -> bool {
        self.0.contains(tool)
    }

    pub fn is_within(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(String::as_str).collect();
        f.write_str(&names.join(" "))
    }
}

/// An access token that the bank signed for here and now. Only [`verify`] makes one. Whose it is, is asked with
/// [`Access::belongs_to`] on each request.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    token: VerifiedToken<AccessClaims>,
    scope: Scope,
}

/// Verifies an access token with one of these keys.
///
/// # Errors
/// [`TokenRefusal`]
pub fn verify(
    token: &str,
    keys: &[TokenKey],
    issuer: &str,
    audience: &str,
    now: UnixMillis,
    skew_max_s: i64,
) -> Result<Access, TokenRefusal> {
    let expected = Expected { kind: TokenKind::Access, issuer, audience, now, skew_max_s };
    let token: VerifiedToken<AccessClaims> = jwt::verify(token, keys, &expected)?;
    let scope = Scope::parse(&token.claims().more.scope).ok_or(TokenRefusal::Claims)?;
    Ok(Access { token, scope })
}

impl Access {
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    pub fn claims(&self) -> &Claims<AccessClaims> {
        self.token.claims()
    }

    /// The key that signed it.
    pub fn key(&self) -> KeyId {
        self.token.key()
    }

    pub fn has_expired(&self, now: UnixMillis) -> bool {
        now.0.div_euclid(1000) >= self.claims().exp
    }

    /// Checks that it was issued to this agent, for this certificate B of its pair.
    ///
    /// # Errors
    /// [`TokenRefusal::AnotherCertificate`], [`TokenRefusal::AnotherAgent`]
    pub fn belongs_to(&self, agent: &VerifiedAgent) -> Result<(), TokenRefusal> {
        let [bank, _] = agent.fingerprints();
        self.is_for(bank, &agent.spiffe_id().to_string())
    }

    fn is_for(&self, bank: Sha256, spiffe_id: &str) -> Result<(), TokenRefusal> {
        let Claims { sub, more, .. } = self.claims();
        if more.cnf != Confirmation::of(bank) {
            return Err(TokenRefusal::AnotherCertificate);
        }
        if sub != spiffe_id || more.client_id != spiffe_id {
            return Err(TokenRefusal::AnotherAgent);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};

    use super::*;
    use crate::kernel::sign::{self, Algorithm};

    #[test]
    fn scopes_are_sets_of_names() {
        let scope = Scope::parse("list_accounts get_transaction").unwrap();
        assert_eq!(scope.to_string(), "get_transaction list_accounts");
        assert!(scope.names("get_transaction") && !scope.names("get") && !scope.names("get_transaction list_accounts"));
        assert!(Scope::parse("list_accounts").unwrap().is_within(&scope) && !scope.is_within(&Scope::default()));
        for none in ["", " ", "a ", " a", "a  b", "a\tb", "a\nb", "a\"b", "a\\b", "\u{e9}"] {
            assert_eq!(Scope::parse(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_token_is_for_one_certificate_and_one_agent() {
        let now = UnixMillis(1_795_234_800_000);
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let spki = sign::spki_der(Algorithm::P256, pair.public_key().as_ref());
        let key = TokenKey { id: Sha256::of(&[&spki]), spki };
        let (bank, agent) = (Sha256([7; 32]), "spiffe://bank.example/agent/purchaser/shopper");
        let judged = |sub: &str, client_id: &str, certificate: Sha256| {
            let more = AccessClaims {
                client_id: client_id.into(),
                cnf: Confirmation::of(certificate),
                jti: "tok_1".into(),
                scope: "list_accounts".into(),
            };
            let iat = now.0 / 1000;
            let (iss, aud) = ("https://bank.example".into(), "https://bank.example/mcp".into());
            let claims = Claims { iss, sub: sub.into(), aud, iat, exp: iat + 60, more };
            let draft = jwt::draft(TokenKind::Access, key.id, &claims).unwrap();
            let signature = pair.sign(&SystemRandom::new(), &draft.input().message()).unwrap();
            let token = draft.signed(signature.as_ref()).unwrap();
            let keys = std::slice::from_ref(&key);
            let access = verify(&token, keys, "https://bank.example", "https://bank.example/mcp", now, 5).unwrap();
            assert!(access.scope().names("list_accounts") && !access.has_expired(now));
            access.is_for(bank, agent)
        };
        let other = "spiffe://bank.example/agent/purchaser/butler";
        assert_eq!(judged(agent, agent, bank), Ok(()));
        assert_eq!(judged(agent, agent, Sha256([8; 32])), Err(TokenRefusal::AnotherCertificate));
        for (sub, client_id) in [(other, other), (other, agent), (agent, other), ("", "")] {
            assert_eq!(judged(sub, client_id, bank), Err(TokenRefusal::AnotherAgent), "{sub} {client_id}");
        }
    }
}
