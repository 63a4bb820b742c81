//! What a client carries from a call that waits for a human to the next one (MCP `requestState`): signed by the bank's
//! token key, for one agent's key, one call and one time.

use serde::{Deserialize, Serialize};

use crate::front::services::Services;
use crate::kernel::command::AgentPrincipal;
use crate::kernel::jwt::{self, Claims, Expected, TokenKind, TokenRefusal};
use crate::kernel::types::{ApprovalId, KeyId, Sha256};
use crate::mcp::server::RequestState;
use crate::ops::clock;
use crate::ops::failure::Failure;

/// It is good this long; afterwards the call is made again and answered with another one.
const LIFETIME_S: i64 = 3600;
/// Another node of the bank may have signed it, with a clock of its own.
const SKEW_MAX_S: i64 = 5;

/// What a state says besides the claims of every token.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Carried {
    approval_id: ApprovalId,
    /// SHA-256 of the call.
    call: Sha256,
    /// The agent's key: its successor asks anew.
    key: KeyId,
    jti: Sha256,
}

/// Why a state is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateRefusal {
    Expired,
    /// Not ours, altered, or another agent's: all alike.
    Invalid,
}

impl StateRefusal {
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "request_state_expired",
            Self::Invalid => "request_state_invalid",
        }
    }

    pub fn sentence(self) -> &'static str {
        match self {
            Self::Expired => "the state of the call is too old",
            Self::Invalid => "the state of the call is none that the bank gave this agent",
        }
    }
}

/// Signs a state for an agent. Blocking.
///
/// # Errors
/// `not_set_up` when the bank has no token key; the token's.
pub fn seal(services: &Services, agent: &AgentPrincipal, state: &RequestState) -> Result<String, Failure> {
    let keys = services.token_keys();
    let key = keys.first().ok_or_else(|| {
        Failure::usage(
            "not_set_up",
            "the bank has no key that signs tokens",
            "run `countersign init` for its directory",
        )
    })?;
    let defect = |what: &str| Failure::fault("state_unwritable", what.to_owned(), "report this as a defect");
    let iat = clock::now().seconds();
    let claims = Claims {
        iss: issuer(services),
        sub: agent.spiffe_id.to_string(),
        aud: issuer(services),
        iat,
        exp: iat + LIFETIME_S,
        more: Carried {
            approval_id: state.approval.clone(),
            call: state.call,
            key: agent.key,
            jti: Sha256(clock::random()),
        },
    };
    let draft = jwt::draft(TokenKind::RequestState, key.id, &claims).map_err(|error| defect(&error.to_string()))?;
    let signature = services.sign_token(key.id, draft.input())?;
    draft.signed(&signature).ok_or_else(|| defect("the signature is not one of P-256"))
}

/// The state that the bank signed for this agent, and what makes it single-use. Blocking.
///
/// # Errors
/// The token's; `Ok(Err(…))` when the rules say no.
pub fn open(
    services: &Services,
    agent: &AgentPrincipal,
    sealed: &str,
) -> Result<Result<(RequestState, Sha256), StateRefusal>, Failure> {
    let issuer = issuer(services);
    let expected = Expected {
        kind: TokenKind::RequestState,
        issuer: &issuer,
        audience: &issuer,
        now: clock::now(),
        skew_max_s: SKEW_MAX_S,
    };
    let mut verified = jwt::verify::<Carried>(sealed, &services.token_keys(), &expected);
    if matches!(verified, Err(TokenRefusal::KeyUnknown)) {
        // Another daemon of this bank may have made the key.
        services.refresh_token_keys()?;
        verified = jwt::verify(sealed, &services.token_keys(), &expected);
    }
    let verified = match verified {
        Ok(verified) => verified,
        Err(TokenRefusal::Expired) => return Ok(Err(StateRefusal::Expired)),
        Err(_) => return Ok(Err(StateRefusal::Invalid)),
    };
    let claims = verified.claims();
    if claims.sub != agent.spiffe_id.to_string() || claims.more.key != agent.key {
        return Ok(Err(StateRefusal::Invalid));
    }
    let Carried { approval_id, call, jti, .. } = &claims.more;
    // Apart from the nonces of requests, which are taken beside it.
    let once = Sha256::of(&[b"request-state", &jti.0]);
    Ok(Ok((RequestState { approval: approval_id.clone(), call: *call }, once)))
}

/// The bank as it names itself in what only it reads again.
fn issuer(services: &Services) -> String {
    format!("countersign:{}", services.setup.party)
}
