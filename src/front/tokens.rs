//! Access tokens of requests: verified once, remembered until they end.
//!
//! What is remembered is that one of the bank's keys signed these claims, and nothing else. Whether that key's tokens
//! are still taken, whether the token belongs to the agent of the connection, and what the agent may do now is asked
//! on every request: so a revocation, a freeze, a narrower role and a newer key all act at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::front::oauth::{Site, TokenGate};
use crate::kernel::access::{self, Access};
use crate::kernel::credential::pair::VerifiedAgent;
use crate::kernel::jwt::TokenRefusal;
use crate::kernel::types::{Sha256, UnixMillis};

/// So much the clocks of two daemons of one bank may differ, in seconds.
const SKEW_MAX_S: i64 = 5;

/// Takes the access tokens of requests.
pub struct AccessTokens {
    gate: Arc<dyn TokenGate>,
    remembered_max: usize,
    /// By the hash of site and token. The lock guards the map only.
    remembered: Mutex<HashMap<Sha256, Arc<Access>>>,
}

impl AccessTokens {
    pub fn new(gate: Arc<dyn TokenGate>, remembered_max: usize) -> Self {
        Self { gate, remembered_max, remembered: Mutex::default() }
    }

    /// The token of a request of this agent, from its one Authorization header.
    ///
    /// # Errors
    /// [`TokenRefusal`]
    pub fn take(
        &self,
        authorization: Option<&[u8]>,
        site: &Site,
        agent: &VerifiedAgent,
        now: UnixMillis,
    ) -> Result<Arc<Access>, TokenRefusal> {
        let token = bearer(authorization.ok_or(TokenRefusal::Missing)?)?;
        let hash = Sha256::of(&[site.host().as_bytes(), &[0], token.as_bytes()]);
        let known = self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned();
        let access = match known {
            Some(access) => self.still_taken(access, now)?,
            None => self.verified(token, site, hash, now)?,
        };
        access.belongs_to(agent)?;
        Ok(access)
    }

    fn still_taken(&self, access: Arc<Access>, now: UnixMillis) -> Result<Arc<Access>, TokenRefusal> {
        if access.has_expired(now) {
            return Err(TokenRefusal::Expired);
        }
        let is_taken = self.gate.keys().iter().any(|key| key.id == access.key());
        if is_taken { Ok(access) } else { Err(TokenRefusal::KeyUnknown) }
    }

    fn verified(&self, token: &str, site: &Site, hash: Sha256, now: UnixMillis) -> Result<Arc<Access>, TokenRefusal> {
        let access = access::verify(token, &self.gate.keys(), &site.issuer(), &site.resource(), now, SKEW_MAX_S)?;
        let access = Arc::new(access);
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= self.remembered_max {
            remembered.retain(|_, access| !access.has_expired(now));
        }
        // What finds no room is verified each time.
        if remembered.len() < self.remembered_max {
            remembered.insert(hash, Arc::clone(&access));
        }
        Ok(access)
    }
}

/// The token of an Authorization header (RFC 6750, 2.1). Another scheme is no token of ours, good or bad; what goes by
/// the name of ours and is not one word is a bad one.
fn bearer(header: &[u8]) -> Result<&str, TokenRefusal> {
    let end = header.iter().position(|byte| *byte == b' ').unwrap_or(header.len());
    if !header[..end].eq_ignore_ascii_case(b"bearer") {
        return Err(TokenRefusal::Scheme);
    }
    let token = header.get(end + 1..).and_then(|token| std::str::from_utf8(token).ok());
    token.filter(|token| !token.is_empty() && !token.contains(' ')).ok_or(TokenRefusal::Parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_one_word_after_its_scheme() {
        for good in ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c"] {
            assert_eq!(bearer(good.as_bytes()), Ok("a.b.c"));
        }
        for other in ["", "a.b.c", "Basic a", "DPoP a", "Bearer\ta", "Bearers a", " Bearer a"] {
            assert_eq!(bearer(other.as_bytes()), Err(TokenRefusal::Scheme), "{other:?}");
        }
        for bad in ["Bearer", "Bearer ", "Bearer  a", "Bearer a b", "bearer a "] {
            assert_eq!(bearer(bad.as_bytes()), Err(TokenRefusal::Parts), "{bad:?}");
        }
        assert_eq!((bearer(b"\xff a"), bearer(b"Bearer \xff")), (Err(TokenRefusal::Scheme), Err(TokenRefusal::Parts)));
    }
}
