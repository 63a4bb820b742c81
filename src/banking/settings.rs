//! `[banking]`

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::kernel::types::CredentialName;

/// The bank's core banking system. Without this section the embedded ledger is the bank's book.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BankingSettings {
    /// Where the protocol of `docs/CORE-BANKING.md` is served; plain HTTP on the loopback only.
    pub url: String,
    /// A file (mode 0600) with the bearer secret; relative paths start at the state directory.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// A credential of the vault with it instead; it is read again when it is rotated.
    #[serde(default)]
    pub secret_vault: Option<CredentialName>,
    /// The root certificate (PEM) under which the core's TLS certificate must lie.
    #[serde(default)]
    pub root_file: Option<PathBuf>,
    /// Presents the bank's tls-client certificate, whose key is in its token, to a core that asks for one.
    #[serde(default)]
    pub client_certificate: bool,
    /// A call that has no answer by then is unknown.
    #[serde(default = "timeout_default")]
    pub timeout_ms: u64,
}

fn timeout_default() -> u64 {
    5_000
}

impl BankingSettings {
    /// What is wrong with the section, in words.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self) -> Result<(), String> {
        let url = reqwest::Url::parse(&self.url).map_err(|error| format!("[banking] url: {error}"))?;
        let host = url.host_str().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        let loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        match url.scheme() {
            "https" if self.root_file.is_none() => {
                return Err("[banking] root_file: https needs the root certificate of the core".into());
            }
            "https" => {}
            "http" if self.client_certificate => {
                return Err("[banking] client_certificate: it is presented in TLS, so the url is https://…".into());
            }
            "http" if loopback => {}
            "http" => return Err("[banking] url: plain http is for the loopback only".into()),
            _ => return Err("[banking] url: https://… is expected".into()),
        }
        if self.secret_file.is_some() && self.secret_vault.is_some() {
            return Err("[banking]: give one of secret_file and secret_vault".into());
        }
        if !(10..=60_000).contains(&self.timeout_ms) {
            return Err("[banking] timeout_ms must be 10 to 60000".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_that_break_a_rule_are_refused_with_the_key() {
        let settings = |url: &str, root: Option<&str>, timeout_ms| BankingSettings {
            url: url.into(),
            secret_file: None,
            secret_vault: None,
            root_file: root.map(Into::into),
            client_certificate: false,
            timeout_ms,
        };
        let table = [
            (settings("core", None, 10), "url"),
            (settings("ftp://127.0.0.1/", None, 10), "https://"),
            (settings("http://core.bank.example/v1", None, 10), "loopback only"),
            (settings("http://127.example/v1", None, 10), "loopback only"),
            (settings("https://core.bank.example/v1", None, 10), "root_file"),
            (
                BankingSettings { client_certificate: true, ..settings("http://127.0.0.1:1/v1", None, 10) },
                "client_certificate",
            ),
            (settings("http://127.0.0.1:1/v1", None, 9), "timeout_ms"),
            (settings("http://127.0.0.1:1/v1", None, 60_001), "timeout_ms"),
        ];
        for (settings, key) in table {
            let refused = settings.check().unwrap_err();
            assert!(refused.contains(key), "{settings:?}: {refused}");
        }
        assert_eq!(settings("https://core.bank.example/v1", Some("root.pem"), 5_000).check(), Ok(()));
        assert_eq!(settings("http://localhost:1/v1", None, 5_000).check(), Ok(()));
    }
}
