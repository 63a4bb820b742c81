//! `[party.<name>]` and `[pki]`

use serde::{Deserialize, Serialize};

use crate::kernel::credential::profile::Profile;
use crate::kernel::status::CustodyLevel;

/// What a party is; decides which keys it makes and which verbs it serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartyKind {
    Bank,
    SecurityCompany,
    AgentHost,
    /// One person's own token: certifies nothing, signs what the person decided.
    Operator,
}

impl PartyKind {
    /// As people call it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Bank => "bank",
            Self::SecurityCompany => "security company",
            Self::AgentHost => "agent host",
            Self::Operator => "operator",
        }
    }

    /// True for parties with a certificate authority.
    pub fn certifies(self) -> bool {
        match self {
            Self::Bank | Self::SecurityCompany => true,
            Self::AgentHost | Self::Operator => false,
        }
    }
}

/// The party that this daemon hosts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartySettings {
    pub kind: PartyKind,
    /// Name of the `[hsm.<token>]` section that holds its keys.
    pub token: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PkiSettings {
    /// Trust domain of every SPIFFE ID.
    pub trust_domain: String,
    /// Base of the private OIDs, dotted.
    pub oid_base: String,
    /// Life of an agent's certificates, in hours; at most what their profiles allow.
    pub agent_life_hours: u32,
    /// Life of the other certificates under the issuing CA, in days; at most what their profiles allow.
    pub service_life_days: u32,
    /// Time from a CRL's thisUpdate to its nextUpdate, in hours.
    pub crl_life_hours: u32,
    /// The least custody that the bank accepts.
    pub custody_min: CustodyLevel,
    /// Whether an agent needs a CRL of the security company that is not past its next update.
    pub company_crl_required: bool,
    /// Where the security company publishes, `http://host:port`: its lists are taken over from there. None: with
    /// `countersign crl import`.
    pub company_pki_url: Option<String>,
    /// Address of the plain HTTP listener for lists and questions about certificates, for example `127.0.0.1:8080`; port 0
    /// picks a free one. None: others publish what is in certs/crl.
    pub listen: Option<std::net::SocketAddr>,
    /// Where anybody gets this party's revocation lists (`/crl/…`) and asks its OCSP responder (`/ocsp/…`), over plain
    /// HTTP: goes into its certificates.
    pub base_url: String,
    /// Host names and addresses in the TLS server's certificate.
    pub tls_names: Vec<String>,
    /// Security company: requests of one other party that wait for an officer, or were given up before they came.
    pub peer_requests_max: u32,
}

impl Default for PkiSettings {
    fn default() -> Self {
        Self {
            trust_domain: "countersign.example".into(),
            oid_base: "1.3.6.1.4.1.32473".into(),
            agent_life_hours: Profile::AgentB.table().life.default_days * 24,
            service_life_days: Profile::TlsServer.table().life.default_days,
            crl_life_hours: 24,
            custody_min: CustodyLevel::CustodyStated,
            company_crl_required: true,
            company_pki_url: None,
            listen: None,
            base_url: "http://pki.countersign.example".into(),
            tls_names: vec!["localhost".into(), "127.0.0.1".into()],
            peer_requests_max: 1_000,
        }
    }
}
